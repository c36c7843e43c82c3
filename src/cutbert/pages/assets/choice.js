// What is chosen on the page, and the rules of fronts and picks, as cutbert itself has them.
const at = (name) => document.getElementById(name);

function axis() {
  return facts.axes[Number(at("axis").value)];
}

function costOf(point, along = axis()) {
  const value = along.backend === undefined ? point[along.key] : point.latency[along.backend];
  return value ?? null;
}

function inTask(point) {
  return facts.runs[point.run].task === facts.tasks[Number(at("task").value)];
}

// The rule of `cutbert front`: nothing of the run is at least as good for at most the cost, and better in one.
function onFront(point, kind = "select_score") {
  const mine = costOf(point);
  if (point.kind === "alternative") return true;
  return mine !== null && !facts.points.some((other) => {
    if (other.run !== point.run || other.kind !== "subnet" || other[kind] < point[kind]) return false;
    const cost = costOf(other);
    return cost !== null && cost <= mine && (other[kind] > point[kind] || cost < mine);
  });
}

// The rule of `cutbert pick`: best on the select split within the budget, of equals the one with fewer MACs, then the
// later one.
function pickOf(run, budget, stockOnly) {
  let best = null;
  for (const point of facts.points) {
    const cost = costOf(point);
    if (point.run !== run.id || point.kind !== "subnet" || cost === null || cost > budget) continue;
    if (stockOnly && !point.stock) continue;
    const isBetter = best === null || point.select_score > best.select_score ||
      (point.select_score === best.select_score && point.macs <= best.macs);
    if (isBetter) best = point;
  }
  return best;
}

// The slider's place as a cost of three digits, rounded up so that its ends hold the cheapest and the dearest.
function budgetNow(points) {
  const costs = points.filter((each) => each.kind === "subnet").map((each) => costOf(each));
  if (!costs.length) return null;
  const [low, high] = [Math.min(...costs), Math.max(...costs)];
  const unit = 10 ** (Math.floor(Math.log10(high)) - 2);
  const exact = low + ((high - low) * Number(at("budget").value)) / 200;
  const digits = Math.max(0, -Math.floor(Math.log10(unit)));
  return Number((Math.ceil(exact / unit) * unit).toFixed(digits));
}

function digitsOf(value) {
  return value >= 100 ? 0 : value >= 10 ? 1 : 2;
}

function saidCost(value) {
  const { per, unit } = axis();
  return `${said(value / per, digitsOf(value / per))} ${unit}`;
}
