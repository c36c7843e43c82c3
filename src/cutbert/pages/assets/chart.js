// What all charts share: SVG elements, axes with round numbers, and a marker for each run. Text only ever goes in as
// text, so nothing that a run is called can become part of the page.
"use strict";
const facts = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const DASHES = ["none", "7 3", "2 3", "9 3 2 3", "4 4", "12 4"];

function make(name, attributes = {}, parent = null, text = null) {
  const isDrawn = parent instanceof SVGElement || name === "svg";
  const element = isDrawn ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// Circle, square, triangle, diamond, plus, triangle on its tip; all of about one area.
const MARKERS = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  (r) => `M${-0.9 * r} ${-0.9 * r}h${1.8 * r}v${1.8 * r}h${-1.8 * r}z`,
  (r) => `M0 ${-1.2 * r}L${1.15 * r} ${0.85 * r}H${-1.15 * r}z`,
  (r) => `M0 ${-1.3 * r}L${1.2 * r} 0L0 ${1.3 * r}L${-1.2 * r} 0z`,
  (r) => `M${-0.4 * r} ${-1.2 * r}h${0.8 * r}v${0.8 * r}h${0.8 * r}v${0.8 * r}h${-0.8 * r}v${0.8 * r}h${-0.8 * r}` +
    `v${-0.8 * r}h${-0.8 * r}v${-0.8 * r}h${0.8 * r}z`,
  (r) => `M0 ${1.2 * r}L${1.15 * r} ${-0.85 * r}H${-1.15 * r}z`,
];

function marker(run, radius, parent) {
  return make("path", { class: `mark colour-${run.colour}`, d: MARKERS[run.marker](radius) }, parent);
}

function drawLine(run, places, parent) {
  const d = `M${places.map((place) => place.join(" ")).join("L")}`;
  make("path", { class: `curve colour-${run.colour}`, "stroke-dasharray": DASHES[run.marker], d }, parent);
}

// An error bar of a score.
function drawBar({ svg, x, y }, run, cost, low, high, isDominated) {
  const [top, bottom, left] = [y(high), y(low), x(cost)];
  const d = `M${left} ${top}V${bottom}M${left - 4} ${top}h8M${left - 4} ${bottom}h8`;
  make("path", { class: `bar colour-${run.colour}${isDominated ? " faint" : ""}`, d }, svg);
}

function drawLimit({ svg, x, box }, limit, isShaded) {
  const left = Math.min(box.right, x(limit));
  const size = { x: left, y: box.top, width: box.right - left, height: box.bottom - box.top };
  if (isShaded) make("rect", { class: "over", ...size }, svg);
  make("path", { class: "limit", d: `M${left} ${box.top}V${box.bottom}` }, svg);
}

// Names beside their places, the first ones first. Where two would overlap the later one moves down a little, or stays
// away.
function placeNames({ svg, box }, names) {
  const taken = [];
  for (const { text, left, y } of names) {
    const name = make("text", { class: "name" }, svg, text);
    const size = name.getComputedTextLength();
    const from = left > (box.left + box.right) / 2 ? left - 13 - size : left + 13;
    const to = from + size;
    let top = y + 4;
    const overlaps = () => taken.some((each) => Math.abs(each.top - top) < 13 && each.from < to && from < each.to);
    for (let i = 0; i < 2 && overlaps(); i++) top += 13;
    if (overlaps()) name.remove();
    else taken.push({ top, from, to });
    name.setAttribute("x", from);
    name.setAttribute("y", top);
  }
}

function drawHalo(svg, left, y) {
  make("circle", { class: "halo", cx: left, cy: y, r: 12 }, svg);
}

function roundTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const ticks = [];
  const last = Math.floor(high / step + 1e-9);
  for (let i = Math.ceil(low / step - 1e-9); i <= last; i++) ticks.push(i * step + 0); // + 0 makes -0 a 0
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0)) };
}

function said(value, digits) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// Span of values with some air; from 0 where that is near.
function spanOf(values, fromZero) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (fromZero && low > 0 && low < 0.5 * high) low = 0;
  const air = 0.06 * (high - low || Math.abs(high) || 1);
  return [low === 0 ? 0 : low - air, high + air];
}

// An empty chart; returns the SVG and where values lie in it.
function startChart(holder, { height, xs, ys, xLabel, yLabel, label }) {
  const width = Math.max(260, holder.clientWidth);
  const box = { left: 46, right: width - 12, top: 24, bottom: height - 40 };
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
  const place = ([low, high], from, to) => (value) => from + ((value - low) / (high - low)) * (to - from);
  const x = place(xs, box.left, box.right);
  const y = place(ys, box.bottom, box.top);
  const horizontal = roundTicks(...xs, Math.max(3, width / 110));
  const vertical = roundTicks(...ys, Math.max(3, height / 55));
  for (const tick of vertical.ticks) {
    make("path", { class: "grid", d: `M${box.left} ${y(tick)}H${box.right}` }, svg);
    make("text", { x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, svg, said(tick, vertical.digits));
  }
  for (const tick of horizontal.ticks) {
    make("path", { class: "grid", d: `M${x(tick)} ${box.bottom}v5` }, svg);
    make("text", { x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, svg, said(tick, horizontal.digits));
  }
  make("path", { class: "grid", d: `M${box.left} ${box.bottom}H${box.right}` }, svg);
  make("text", { x: box.right, y: height - 6, "text-anchor": "end" }, svg, xLabel);
  make("text", { x: 4, y: 12 }, svg, yLabel);
  holder.replaceChildren(svg);
  return { svg, x, y, box };
}

function showRun(run, parent) {
  const key = make("span", { class: "key" }, parent);
  drawKey(key, run);
  parent.append(` ${run.name}`);
}

function drawKey(key, run) {
  marker(run, 6, make("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, key));
}

// Commands behind a word; returns the element that opens.
function foldCommands(title, commands, parent) {
  const folded = make("details", { class: "commands" }, parent);
  make("summary", {}, folded, title);
  for (const command of commands) copyButton(command, folded);
  return folded;
}

function copyButton(text, parent) {
  const holder = make("div", { class: "command" }, parent);
  make("code", {}, holder, text);
  make("button", { type: "button", class: "copy" }, holder, "copy");
}
