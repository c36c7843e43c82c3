// The rest of the page: keys of the runs, the table that sorts, buttons that copy, and redrawing.
function sortBy(heading) {
  const headings = [...heading.parentElement.children];
  const column = headings.indexOf(heading);
  const isUp = heading.getAttribute("aria-sort") !== "ascending";
  for (const each of headings) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", isUp ? "ascending" : "descending");
  const body = heading.closest("table").tBodies[0];
  const valueOf = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const [first, second] = [valueOf(a), valueOf(b)];
    if (!first || !second) return Number(!first) - Number(!second); // what has no value comes last either way
    const byNumber = Number(first) - Number(second);
    return (isUp ? 1 : -1) * (Number.isNaN(byNumber) ? first.localeCompare(second) : byNumber);
  };
  body.append(...[...body.rows].sort(compare));
}

function markTable() {
  for (const row of document.querySelectorAll("#networks tbody tr")) {
    const point = facts.points[Number(row.dataset.point)];
    row.querySelector(".on-front").textContent = point.kind !== "alternative" && onFront(point) ? "yes" : "";
  }
}

async function copy(button) {
  const code = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code); // the browser forbids it: leave it to the reader's own keys
    button.textContent = "selected";
  }
  setTimeout(() => (button.textContent = "copy"), 1500);
}

function drawAll() {
  if (facts.points.length) drawFront();
  drawTried();
  drawCurves();
}

for (const key of document.querySelectorAll(".key[data-run]")) drawKey(key, facts.runs[Number(key.dataset.run)]);
for (const key of document.querySelectorAll(".key[data-kind]")) drawKey(key, looksOf(key.dataset.kind));
for (const heading of document.querySelectorAll("table.sortable thead th")) {
  heading.firstElementChild.addEventListener("click", () => sortBy(heading));
}
document.addEventListener("click", (event) => {
  if (event.target.matches(".copy")) copy(event.target);
});
if (facts.points.length) {
  for (const name of ["task", "axis", "score", "stock", "bars"]) at(name).addEventListener("change", drawFront);
  at("budget").addEventListener("input", drawFront);
  at("controls").addEventListener("submit", (event) => event.preventDefault());
}
let drawnWidth = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === drawnWidth) return;
  drawnWidth = innerWidth;
  drawAll();
});
drawAll();
