// Training curves: a chart for each stage, a line for each run, any logged quantity by choice.
function drawCurves() {
  const holder = document.getElementById("curves");
  if (!holder) return;
  if (!holder.children.length) makeCurves(holder);
  for (const figure of holder.children) drawStage(figure);
}

function makeCurves(holder) {
  for (const stage of new Set(facts.stages.map((each) => each.name))) {
    const lines = facts.stages.filter((each) => each.name === stage);
    const figure = make("figure", { "data-stage": stage }, holder);
    make("h3", {}, figure, stage);
    const label = make("label", { class: "quiet" }, figure, "shown ");
    const choice = make("select", {}, label);
    const quantities = new Set(["loss", ...lines.flatMap((line) => Object.keys(line.curves))]);
    for (const name of quantities) make("option", { value: name }, choice, name);
    choice.addEventListener("change", () => drawStage(figure));
    make("div", { class: "chart" }, figure);
  }
}

function drawStage(figure) {
  const quantity = figure.querySelector("select").value;
  const lines = facts.stages.filter((each) => each.name === figure.dataset.stage && each.curves[quantity]);
  const values = lines.flatMap((line) => line.curves[quantity]);
  const chart = startChart(figure.querySelector(".chart"), {
    height: 240,
    xs: spanOf(values.map(([step]) => step), true),
    ys: spanOf(values.map(([, value]) => value), true),
    xLabel: "step",
    yLabel: quantity,
    label: `${quantity} of ${figure.dataset.stage} by step`,
  });
  for (const line of lines) {
    const run = facts.runs[line.run];
    const places = line.curves[quantity].map(([step, value]) => [chart.x(step), chart.y(value)]);
    drawLine(run, places, chart.svg);
    const [x, y] = places.at(-1);
    marker(run, 5, make("g", { transform: `translate(${x} ${y})` }, chart.svg));
  }
}
