// The map: cards of namespaces with rows of workloads, and links as wide as their bytes.

import { $, el, inFrames, onWidth, svg, setText } from "./dom.js";
import { bytes, count, many, volume } from "./format.js";
import { inEnd } from "./doubt.js";
import { change, state } from "./state.js";
import { build, opened, view, others } from "./model.js";
import { layout, curve, size } from "./layout.js";

const linksShown = 300;
const crowd = 120; // from so many links on they are fainter
const widestOf = links => (links > crowd ? 5 : links > 40 ? 9 : 12);

let model = build([]);
let other = null; // what the API has left out
let shown = null; // the view that is drawn
let placed = null;
let structure = ""; // what cards and rows there are: while it stays, nothing moves
let selected = "";
let select = () => {};
const more = new Map();
const paths = new Map(); // of links, by key
const drawn = new Map(); // elements of cards, by the id of their group
let again = null; // the button that had the focus before the cards were drawn anew

export const current = () => model;

export function start(onSelect) {
  select = onSelect;
  $("open-all").addEventListener("click", () => change({ open: "all" }));
  $("close-all").addEventListener("click", () => change({ open: "none" }));
  const cards = $("cards");
  cards.addEventListener("click", e => press(e.target.closest("button")));
  cards.addEventListener("keydown", move);
  const mark = e => highlight(e.target.closest("[data-id]")?.dataset.id || selected);
  cards.addEventListener("pointerover", mark);
  cards.addEventListener("focusin", mark);
  cards.addEventListener("pointerleave", () => highlight(selected));
  cards.addEventListener("focusout", () => highlight(selected));
  const links = $("links");
  const linkAt = e => shown?.links.find(l => l.key === e.target.dataset.key);
  links.addEventListener("click", e => linkAt(e) && select({ link: linkAt(e) }));
  links.addEventListener("pointerover", e => linkAt(e) && describe(e.target, linkAt(e)));
  onWidth($("canvas"), draw);
}

export function update(pairs, rest) {
  model = build(pairs);
  other = rest;
  draw();
}

export function mark(id) {
  selected = id;
  highlight(id);
}

function press(button) {
  if (!button) return;
  const { id, action } = button.dataset;
  if (action === "toggle") {
    const open = opened(model, state.open);
    if (!open.delete(id)) open.add(id);
    const all = model.groups.every(g => open.has(g.id));
    change({ open: all ? "all" : [...open].sort().join(",") || "none" });
  } else if (action === "more") {
    more.set(id, (more.get(id) || 0) + 20);
    draw();
  } else {
    select({ id });
  }
}

// move goes from button to button by the arrow keys, and between columns.
function move(e) {
  const steps = { ArrowDown: 1, ArrowUp: -1 };
  const buttons = [...$("cards").querySelectorAll("button")];
  const i = buttons.indexOf(document.activeElement);
  if (i < 0 || !(e.key in steps)) return;
  buttons[i + steps[e.key]]?.focus();
  e.preventDefault();
}

export function draw() {
  const width = $("canvas").clientWidth;
  if (width === 0) return inFrames($("canvas"), [], 1, () => {}); // what is left to draw is of another model
  shown = view(model, opened(model, state.open), more);
  const next = `${width}|` + shown.cards.map(c => `${c.id}:${c.open}:${c.hidden > 0}:${c.rows.map(r => r.id).sort()}`).sort().join("|");
  if (next !== structure || !placed) {
    structure = next;
    placed = layout(shown, width);
    drawCards();
  }
  const unsure = new Set([...model.ends.values()].filter(e => inEnd(e.id)).flatMap(e => [e.id, e.group]));
  inFrames($("canvas"), shown.cards, 3, c => refreshCard(c, unsure), () => {
    again = null;
    drawLinks();
  });
  note();
}

// drawCards draws cards with their heads. Their rows come when they are refreshed.
function drawCards() {
  const focused = document.activeElement?.closest?.("#cards button");
  if (focused) again = { ...focused.dataset };
  $("canvas").style.height = `${placed.height}px`;
  const top = id => placed.boxes.get(id);
  const order = [...shown.cards].sort((a, b) => top(a.id).x - top(b.id).x || top(a.id).y - top(b.id).y);
  drawn.clear();
  $("cards").replaceChildren(...order.map(card));
  $("links").replaceChildren();
  paths.clear();
  focusAgain($("cards"));
}

function card(c) {
  const box = placed.boxes.get(c.id);
  const group = c.id.startsWith("ns:") ? "" : ` ${c.id}`;
  const e = el("div", { class: `box${group}`, role: "group", "aria-label": c.title });
  Object.assign(e.style, { left: `${box.x}px`, top: `${box.y}px`, width: `${box.w}px`, height: `${box.h}px` });
  const head = el("div", { class: "box-head" });
  if (c.id !== others) {
    head.append(el("button", { class: "toggle", type: "button", "aria-expanded": String(c.open), "aria-label": `${c.title}: show its workloads`, data: { id: c.id, action: "toggle" }, text: c.open ? "−" : "+" }));
  }
  head.append(el("button", { class: "box-title", type: "button", title: c.title, data: { id: c.id, action: "select" } }, el("span", { class: "name", text: c.title }), el("span", { class: "sum", data: { sum: c.id } })));
  e.append(head);
  drawn.set(c.id, e);
  return e;
}

function rowsOf(c) {
  const rows = c.rows.map(r => el("button", { class: `row ${r.css}`, type: "button", title: `${r.kind === "none" ? "outside" : r.kind} ${r.name}`, data: { id: r.id, action: "select" } },
    el("span", { class: "name", text: r.name }), el("span", { class: "sum", data: { sum: r.id } })));
  if (c.open && c.hidden > 0) rows.push(el("button", { class: "row rest", type: "button", data: { id: c.id, action: "more" } }, el("span", { class: "name" })));
  return rows;
}

function refreshCard(c, unsure) {
  const e = drawn.get(c.id);
  if (e.childElementCount === 1) e.append(...rowsOf(c));
  for (const sum of e.querySelectorAll(".sum")) {
    const id = sum.dataset.sum, end = model.ends.get(id);
    sum.classList.toggle("doubtful", unsure.has(id));
    if (id === c.id) setText(sum, c.open || c.id === others ? "" : `${placed.narrow ? "" : `${count(c.count)} · `}${volume(c.bytes)}`);
    else setText(sum, volume(end.sent + end.received));
    sum.title = unsure.has(id) ? "The name is doubtful in some flows" : id === c.id && !c.open ? `${many(c.count, "end")}, ${bytes(c.bytes)} sent and received` : "";
  }
  const rest = e.querySelector(".rest .name");
  if (rest) setText(rest, `${count(c.hidden)} more…`);
  focusAgain(e);
}

// focusAgain gives the focus back to the button that had it, if that is drawn again and nothing
// else has got the focus meanwhile: the body has it where nothing has.
function focusAgain(e) {
  if (document.activeElement !== document.body) again = null;
  if (!again) return;
  const button = [...e.querySelectorAll("button")].find(b => b.dataset.id === again.id && b.dataset.action === again.action);
  if (!button) return;
  button.focus();
  again = null;
}

function drawLinks() {
  const links = shown.links.slice(0, linksShown);
  const scale = widestOf(links.length) / Math.sqrt(links[0]?.bytes || 1);
  $("canvas").classList.toggle("many", links.length > crowd);
  const wanted = new Set(links.map(l => l.key));
  for (const [key, path] of paths) {
    if (!wanted.has(key)) {
      path.remove();
      paths.delete(key);
    }
  }
  inFrames($("canvas"), links, 40, l => drawLink(l, scale), () => highlight(selected));
}

function drawLink(l, scale) {
  let path = paths.get(l.key);
  if (!path) {
    path = svg("path");
    path.dataset.key = l.key;
    paths.set(l.key, path);
    $("links").append(path);
  }
  const from = placed.anchors.get(l.from), to = placed.anchors.get(l.to);
  const width = Math.max(1.25, Math.sqrt(l.bytes) * scale);
  // The two directions run side by side: rightwards and downwards below.
  const forth = from.column === to.column ? from.y <= to.y : from.column < to.column;
  const offset = Math.min(width / 2 + 0.5, size.row / 3) * (forth ? 1 : -1);
  set(path, "d", curve(from, to, offset, placed.columns));
  set(path, "stroke-width", width.toFixed(2));
  set(path, "class", `link ${l.fate}`.trim());
  Object.assign(path.dataset, { from: l.from, to: l.to, bytes: l.bytes });
}

// describe gives a link its tooltip, which is made when it is wanted: most never are.
function describe(path, l) {
  if (!path.firstChild) path.append(svg("title"));
  setText(path.firstChild, `${l.fate ? `${l.fate}: ` : ""}${title(l.from)} → ${title(l.to)}: ${bytes(l.bytes)}, ${many(l.packets, "packet")}, ${many(l.flows, "flow")}`);
}

function set(e, name, value) {
  if (e.getAttribute(name) !== value) e.setAttribute(name, value);
}

// title is what an end of a link is called.
export function title(id) {
  const end = model.ends.get(id);
  if (end) return end.namespace ? `${end.namespace}/${end.name}` : end.name;
  const rest = id.startsWith("more:");
  const c = shown.cards.find(x => x.id === (rest ? id.slice(5) : id));
  return rest ? `${c?.title}, ${c?.hidden} smaller ones` : c?.title || id;
}

// highlight shows the links of one end. They are copies in a layer of their own, and the layer
// below becomes fainter as a whole: so a frame costs the same however many links there are.
function highlight(id) {
  const rows = new Set([id, ...(shown?.cards.find(c => c.id === id)?.rows.map(r => r.id) || []), `more:${id}`]);
  const near = new Set(), hot = [];
  for (const [key, path] of id === "" ? [] : paths) {
    const { from, to } = path.dataset;
    if (!rows.has(from) && !rows.has(to) && key !== id) continue;
    near.add(from).add(to);
    const copy = path.cloneNode(false);
    copy.removeAttribute("data-key");
    hot.push(copy);
  }
  $("hot").replaceChildren(...hot);
  $("links").classList.toggle("dim", hot.length > 0);
  for (const b of $("cards").querySelectorAll("[data-action=select]")) {
    b.classList.toggle("near", near.has(b.dataset.id));
    b.classList.toggle("chosen", b.dataset.id === selected);
  }
}

function note() {
  const hidden = shown.links.length - linksShown;
  setText($("map-note"), model.links.length === 0 ? "" :
    `${many(model.groups.length, "group")}, ${many(model.ends.size, "end")}, ${many(model.links.length, "pair")}. A link is as wide as the root of its bytes; each direction has its own.` +
    (other?.pairs > 0 ? ` ${many(other.pairs, "smaller pair")}, with ${bytes(other.bytes)}, not on the map.` : "") +
    (hidden > 0 ? ` The ${count(hidden)} thinnest links are not drawn: filter, or close groups.` : ""));
}
