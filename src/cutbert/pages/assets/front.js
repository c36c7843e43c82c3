// The chart of score against cost: every network, each run's front, the budget and what it picks.
const chosen = { looked: null, selected: null, isOpen: false };

function drawFront() {
  const shown = facts.points.filter((point) => inTask(point) && costOf(point) !== null);
  const kind = at("score").value;
  const scored = shown.filter((point) => point[kind] !== null);
  tellNotes(shown, scored);
  markTable();
  if (!scored.length) {
    at("chart").replaceChildren();
    showBudget(false);
    return;
  }
  const hadFocus = at("chart").contains(document.activeElement);
  const { per, label } = axis();
  const metric = facts.runs[scored[0].run].metric;
  const chart = startChart(at("chart"), {
    height: Math.min(460, Math.max(300, at("chart").clientWidth * 0.62)),
    xs: spanOf(scored.map((point) => costOf(point) / per), true),
    ys: spanOf(scored.flatMap((point) => [point[kind], ...(barOf(point, kind) ?? [])]).map((each) => 100 * each), false),
    xLabel: label,
    yLabel: `${metric} on ${kind === "score" ? "dev" : "select"}, points`,
    label: "Score against cost. Arrow keys go from network to network.",
  });
  const budget = budgetNow(shown);
  const picks = tellBudget(shown, budget);
  if (budget !== null) drawLimit(chart, budget / per, true);
  drawLines(chart, scored, kind, per);
  for (const point of scored) {
    const bar = barOf(point, kind);
    if (!bar) continue;
    const [low, high] = bar.map((each) => 100 * each);
    drawBar(chart, facts.runs[point.run], costOf(point) / per, low, high, !onFront(point) && point.kind === "subnet");
  }
  const order = scored.slice().sort((a, b) => costOf(a) - costOf(b) || a[kind] - b[kind]);
  const ranked = order.slice().sort((a, b) => onFront(a) - onFront(b)); // those on the front on top
  for (const point of ranked) drawPoint(chart, point, kind, per, order);
  labelPoints(chart, scored, kind, per, picks);
  if (!scored.includes(chosen.selected)) select(picks[0] ?? scored[0]);
  markLooked(hadFocus);
}

// The interval of a score as it is drawn: dev's, unless the reader wants none.
function barOf(point, kind) {
  return kind === "score" && at("bars").checked ? point.interval : null;
}

// A run's line goes through the front by the score that is shown; only that one never falls.
function drawLines({ svg, x, y }, points, kind, per) {
  for (const run of facts.runs) {
    const line = points.filter((point) => point.run === run.id && point.kind === "subnet" && onFront(point, kind))
      .sort((a, b) => costOf(a) - costOf(b))
      .map((point) => [x(costOf(point) / per), y(100 * point[kind])]);
    if (line.length > 1) drawLine(run, line, svg);
  }
}

function drawPoint({ svg, x, y }, point, kind, per, order) {
  const run = facts.runs[point.run];
  const looks = `point ${point.kind}${onFront(point) || point.kind === "teacher" ? "" : " dominated"}`;
  const told = `${point.name} of ${run.name}: ${said(100 * point[kind], 2)} points, ${saidCost(costOf(point))}`;
  const group = make("g", {
    class: looks, "data-point": point.id, role: "button", tabindex: -1, "aria-label": told,
    transform: `translate(${x(costOf(point) / per)} ${y(100 * point[kind])})`,
  }, svg);
  make("circle", { class: "hit", r: 11 }, group);
  make("circle", { class: "ring", r: 10 }, group);
  marker(run, point.kind === "subnet" ? 5 : 6.5, group);
  group.addEventListener("pointerenter", () => look(point));
  group.addEventListener("pointerleave", () => look(chosen.selected));
  group.addEventListener("click", () => select(point));
  group.addEventListener("focus", () => select(point));
  group.addEventListener("keydown", (event) => step(event, point, order));
}

function step(event, point, order) {
  const place = order.indexOf(point);
  const [before, after] = [place - 1, place + 1];
  const last = order.length - 1;
  const next = { ArrowRight: after, ArrowUp: after, ArrowLeft: before, ArrowDown: before, Home: 0, End: last };
  if (next[event.key] === undefined) return;
  const target = order[next[event.key]];
  event.preventDefault();
  if (target) groupOf(target).focus();
}

// A network that stands for its run is called by the run's name.
function labelOf(point) {
  const run = facts.runs[point.run];
  const others = facts.points.filter((each) => each.run === run.id && each.kind !== "teacher");
  return point.kind !== "teacher" && others.length === 1 ? run.name : point.name;
}

// Names at picks, alternatives and, where there is room, teachers.
function labelPoints(chart, points, kind, per, picks) {
  const hasRoom = chart.box.right - chart.box.left > 480;
  const rank = (point) => (picks.includes(point) ? 0 : 1);
  const isNamed = (point) => labelOf(point) !== point.name || (hasRoom && point.kind === "teacher");
  const named = points.filter((point) => picks.includes(point) || isNamed(point));
  const place = (point) => ({ text: labelOf(point), left: chart.x(costOf(point) / per), y: chart.y(100 * point[kind]) });
  placeNames(chart, named.sort((a, b) => rank(a) - rank(b) || b[kind] - a[kind]).map(place));
  for (const { left, y } of picks.filter((point) => points.includes(point)).map(place)) drawHalo(chart.svg, left, y);
}

function showBudget(isShown) {
  for (const name of ["budget-box", "picks-box"]) at(name).hidden = !isShown;
}

// What each run's pick is, in words, with its command; returns the picks.
function tellBudget(points, budget) {
  showBudget(budget !== null);
  if (budget === null) return [];
  const limit = `${axis().limit} ${budget}`;
  at("budget-said").textContent = `at most ${saidCost(budget)}`;
  at("budget").setAttribute("aria-valuetext", `at most ${saidCost(budget)}`);
  const stockOnly = at("stock").checked;
  const picks = [];
  const list = at("picks");
  list.replaceChildren();
  for (const run of facts.runs) {
    if (!points.some((point) => point.run === run.id && point.kind === "subnet")) continue;
    const pick = pickOf(run, budget, stockOnly);
    const item = make("li", pick ? { "data-pick": pick.id } : {}, list);
    showRun(run, item);
    if (pick === null) {
      item.append(": nothing fits");
      continue;
    }
    picks.push(pick);
    item.append(`: ${pick.name}, ${said(100 * pick.select_score, 2)} on select, ${said(100 * pick.score, 2)} on dev, ` +
      saidCost(costOf(pick)));
    foldCommands("command", [`${run.pick} ${limit}${stockOnly ? " --stock" : ""} --out picked`], item);
  }
  return picks;
}

// What the chart does not show, and which latencies cannot be compared.
function tellNotes(shown, scored) {
  const notes = [];
  const names = (points) => points.map((point) => `${point.name} of ${facts.runs[point.run].name}`).join(", ");
  const without = facts.points.filter((point) => inTask(point) && costOf(point) === null);
  if (without.length) notes.push(`No such latency, not drawn: ${names(without)}.`);
  const unscored = shown.filter((point) => !scored.includes(point));
  if (unscored.length) notes.push(`Not scored on this split, not drawn: ${names(unscored)}.`);
  const { backend } = axis();
  if (backend !== undefined) {
    const conditions = new Set(shown.map((point) => facts.runs[point.run].measured[backend]));
    if (conditions.size === 1) notes.push(`Measured with ${[...conditions][0]}.`);
    if (conditions.size > 1) {
      notes.push("These runs were measured under different conditions (see the runs below): " +
        "compare latencies within a run only.");
    }
  }
  notes.push("Line: the run's front by the score shown. Filled: on its run's front by select, which picks go by; " +
    "grey: by select something of its run is as good for as little; hollow: the uncut model and alternatives; " +
    "dashed ring: picked.");
  if (scored.some((point) => barOf(point, at("score").value))) notes.push("Bars: 95 % interval over dev's rows.");
  at("chart-notes").textContent = notes.join(" ");
}

function groupOf(point) {
  return at("chart").querySelector(`[data-point="${point.id}"]`);
}

function select(point) {
  chosen.selected = point;
  look(point);
}

function look(point) {
  chosen.looked = point;
  markLooked(false);
  showPanel(point);
}

function markLooked(hadFocus) {
  for (const group of at("chart").querySelectorAll(".point")) {
    const id = Number(group.dataset.point);
    group.classList.toggle("looked", id === chosen.looked?.id);
    group.setAttribute("tabindex", id === chosen.selected?.id ? 0 : -1);
  }
  if (hadFocus && chosen.selected) groupOf(chosen.selected)?.focus();
}

function showPanel(point) {
  const panel = at("panel");
  const run = facts.runs[point.run];
  panel.replaceChildren();
  make("h3", {}, panel, point.name);
  showRun(run, make("p", {}, panel));
  const drawing = point.drawing === null ? null : document.querySelector(`#shape-${point.drawing} svg`);
  if (drawing) panel.append(drawing.cloneNode(true));
  const list = make("dl", {}, panel);
  const tell = (name, value) => {
    make("dt", {}, list, name);
    make("dd", {}, list, value);
  };
  tell("dev", `${said(100 * point.score, 2)} points of ${run.metric}`);
  if (point.interval) {
    const [low, high] = point.interval;
    tell("95 % interval", `${said(100 * low, 1)} to ${said(100 * high, 1)}, over dev's rows`);
  }
  if (point.spread) {
    const { mean, deviation, count } = point.spread;
    tell("over seeds", `${said(100 * mean, 2)} ± ${said(100 * deviation, 2)} (${count} seeds)`);
  }
  if (point.select_score !== null) tell("select", `${said(100 * point.select_score, 2)} points`);
  for (const [backend, value] of Object.entries(point.latency)) tell(`ms, ${backend}`, said(value, 2));
  tell("MACs", `${said(point.macs / 1e6, 1)} M`);
  tell("params", `${said(point.params / 1e6, 1)} M, ${said(point.bytes / 1e6, 1)} MB`);
  if (point.stock !== null) {
    tell("loads in", point.stock ? "plain transformers" : "transformers after import cutbert.hub");
  }
  if (!point.is_picked) {
    const why = "No limit picks it: another is at least as good within its costs.";
    make("p", { class: "quiet" }, panel, why);
  }
  const folded = foldCommands("made by", point.commands, panel);
  folded.open = chosen.isOpen;
  folded.addEventListener("toggle", () => (chosen.isOpen = folded.open));
}
