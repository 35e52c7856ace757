// Traffic over time: stacked areas, a span of which can be marked.

import { $, el, svg, setText } from "./dom.js";
import { bytes, clock, moment, short, span } from "./format.js";
import { change } from "./state.js";

const height = 120;
const colours = 6; // classes c0 to c5 of style.css; the rest is grey
const assigned = new Map(); // of a label: its colour, which stays while the page is open

let data = null; // { start, step, n, layers: [{label, css, values}], totals }
let cursor = -1;
let anchor = -1; // where a marked span begins

export function start() {
  const chart = $("chart");
  chart.addEventListener("pointerdown", e => {
    if (!data) return;
    anchor = cursor = at(e);
    chart.setPointerCapture(e.pointerId);
    hint();
  });
  chart.addEventListener("pointermove", e => {
    if (!data) return;
    cursor = at(e);
    hint();
  });
  chart.addEventListener("pointerup", () => {
    if (anchor >= 0 && Math.abs(anchor - cursor) >= 1) take();
    anchor = -1;
    hint();
  });
  chart.addEventListener("pointerleave", () => {
    if (anchor < 0) leave();
  });
  chart.addEventListener("blur", leave);
  chart.addEventListener("keydown", key);
}

function leave() {
  cursor = anchor = -1;
  hint();
}

function key(e) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -1e6, End: 1e6 };
  if (!data) return;
  if (e.key in steps) {
    if (!e.shiftKey) anchor = -1;
    else if (anchor < 0) anchor = Math.max(0, cursor);
    cursor = Math.max(0, Math.min(data.n - 1, (cursor < 0 ? data.n : cursor) + steps[e.key]));
    e.preventDefault();
  } else if (e.key === "Enter" && cursor >= 0) {
    if (anchor < 0) anchor = cursor;
    take();
    anchor = -1;
  } else return;
  hint();
}

const at = e => {
  const box = $("chart").getBoundingClientRect();
  return Math.max(0, Math.min(data.n - 1, Math.floor(((e.clientX - box.left) / box.width) * data.n)));
};

const timeOf = i => new Date(data.start + i * data.step * 1000);

// take makes the marked span the window.
function take() {
  const from = Math.min(anchor, cursor), to = Math.max(anchor, cursor) + 1;
  change({ since: timeOf(from).toISOString(), until: timeOf(to).toISOString() });
}

export function update(answer) {
  const n = Math.max(0, ...answer.series.map(s => s.bytes.length), answer.other?.bytes?.length || 0);
  const layers = answer.series.slice(0, colours).map(s => ({ label: s.label || "outside", values: s.bytes }));
  const rest = new Array(n).fill(0);
  for (const s of answer.series.slice(colours)) s.bytes.forEach((v, i) => (rest[i] += v));
  answer.other?.bytes?.forEach((v, i) => (rest[i] += v));
  for (const l of layers) l.css = `c${colour(l.label, layers)}`;
  if (rest.some(v => v > 0)) layers.push({ label: "others", values: rest, css: "c-rest" });
  const totals = new Array(n).fill(0);
  for (const l of layers) l.values.forEach((v, i) => (totals[i] += v));
  data = n === 0 || !answer.start ? null : { start: Date.parse(answer.start), step: answer.step_seconds, n, layers, totals };
  render();
}

function colour(label, layers) {
  if (!assigned.has(label)) {
    const used = new Set(layers.map(l => assigned.get(l.label)));
    let c = 0;
    while (used.has(c) && c < colours - 1) c++;
    assigned.set(label, c);
  }
  return assigned.get(label);
}

function render() {
  const chart = $("chart");
  if (!data) {
    chart.replaceChildren();
    $("legend").replaceChildren();
    chart.setAttribute("aria-label", "Traffic over time: nothing in this window");
    return;
  }
  const most = Math.max(1, ...data.totals), sum = data.totals.reduce((a, b) => a + b, 0);
  const picture = svg("svg", { viewBox: `0 0 ${data.n} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const floor = new Array(data.n).fill(0);
  for (const l of data.layers) {
    picture.append(svg("path", { class: l.css, d: area(l.values, floor, most) }));
    l.values.forEach((v, i) => (floor[i] += v));
  }
  picture.append(svg("rect", { id: "chart-span", y: 0, height, width: 0 }), svg("rect", { id: "chart-cursor", y: 0, height, width: 0 }));
  const rate = v => `${bytes(v / data.step)}/s`;
  const axis = el("div", { class: "axis", "aria-hidden": "true" }, el("span", { text: sum > 0 ? rate(most) : "nothing that counts" }),
    el("span", { class: "from", text: moment(timeOf(0)) }), el("span", { class: "to", text: clock(timeOf(data.n)) }));
  chart.replaceChildren(picture, axis);
  chart.setAttribute("aria-label", `Traffic over ${span(data.n * data.step)} from ${moment(timeOf(0))}: ${bytes(sum)}, at most ${rate(most)}`);
  $("legend").replaceChildren(...data.layers.filter(l => l.values.some(v => v > 0)).map(l => el("span", { class: "item" }, el("i", { class: `swatch ${l.css}` }), el("span", { text: l.label }))));
  hint();
}

// area is a stepped area above what is drawn already.
function area(values, floor, most) {
  const y = v => (height * (1 - v / most)).toFixed(2);
  let top = "", bottom = "";
  values.forEach((v, i) => {
    top += `${i === 0 ? "M" : "L"}${i} ${y(floor[i] + v)}H${i + 1}`;
    bottom = `L${i + 1} ${y(floor[i])}H${i}${bottom}`;
  });
  return `${top}${bottom}Z`;
}

function hint() {
  const line = $("chart-cursor"), marked = $("chart-span");
  if (!line) return setText($("chart-now"), "");
  line.setAttribute("width", cursor >= 0 ? 1 : 0);
  marked.setAttribute("width", anchor >= 0 ? Math.abs(cursor - anchor) + 1 : 0);
  if (cursor < 0) return setText($("chart-now"), "Drag over a span to look at it alone.");
  line.setAttribute("x", cursor);
  marked.setAttribute("x", Math.min(anchor, cursor));
  const parts = data.layers.filter(l => l.values[cursor] > 0).map(l => `${l.label} ${bytes(l.values[cursor])}`);
  setText($("chart-now"), `${clock(timeOf(cursor))}, ${short(data.step)} s: ${bytes(data.totals[cursor])}${parts.length ? ` (${parts.join(", ")})` : ""}`);
}
