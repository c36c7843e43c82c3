// The picture of a leaderboard: score against latency with error bars, the uncut model, the choice and the limit.
const KINDS = ["teacher", "layers", "sizes", "undivided", "gates", "student"];

function drawTried() {
  for (const holder of document.querySelectorAll("[data-tried]")) {
    drawBoard(holder, facts.tried[Number(holder.dataset.tried)]);
  }
}

function looksOf(kind) {
  const place = KINDS.indexOf(kind);
  return { colour: place, marker: place };
}

function drawBoard(holder, board) {
  const scores = board.points.flatMap((point) => [point.score, ...(point.interval ?? [])]);
  const times = board.points.flatMap((point) => [point.latency_ms, ...(point.quartiles_ms ?? [])]);
  const chart = startChart(holder, {
    height: Math.min(460, Math.max(300, holder.clientWidth * 0.55)),
    xs: spanOf([...times, ...board.latency_limits], true),
    ys: spanOf(scores.map((score) => 100 * score), false),
    xLabel: "latency, median ms at batch 1",
    yLabel: `${board.metric} on dev, points`,
    label: "Score against latency of everything that was tried; the table below has the same numbers.",
  });
  for (const limit of board.latency_limits) drawLimit(chart, limit, board.latency_limits.length === 1);
  for (const point of board.points) drawTriedBars(chart, point);
  for (const point of board.points) drawTriedPoint(chart, point);
  const rank = (point) => (point.is_chosen ? 0 : point.is_uncut ? 1 : 2);
  const place = (point) => ({ text: point.name, left: chart.x(point.latency_ms), y: chart.y(100 * point.score) });
  placeNames(chart, board.points.slice().sort((a, b) => rank(a) - rank(b) || b.score - a.score).map(place));
}

function drawTriedBars(chart, point) {
  const looks = looksOf(point.kind);
  if (point.interval) {
    const [low, high] = point.interval.map((score) => 100 * score);
    drawBar(chart, looks, point.latency_ms, low, high, false);
  }
  if (point.quartiles_ms) {
    const [left, right] = point.quartiles_ms.map(chart.x);
    const d = `M${left} ${chart.y(100 * point.score)}H${right}`;
    make("path", { class: `bar colour-${looks.colour}`, d }, chart.svg);
  }
}

function drawTriedPoint({ svg, x, y }, point) {
  const [left, top] = [x(point.latency_ms), y(100 * point.score)];
  const classes = `tried ${point.is_uncut ? "teacher" : ""}${point.is_chosen ? " chosen" : ""}`;
  const group = make("g", { class: classes, transform: `translate(${left} ${top})` }, svg);
  make("title", {}, group, `${point.name}: ${said(100 * point.score, 2)} points, ${said(point.latency_ms, 2)} ms`);
  marker(looksOf(point.kind), point.is_uncut ? 6.5 : 5.5, group);
  if (point.is_chosen) drawHalo(svg, left, top);
}
