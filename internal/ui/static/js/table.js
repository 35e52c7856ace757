// The table of pairs.

import { $, el, inFrames, ownWidth, setText } from "./dom.js";
import { bytes, clock, count, endName, isDated, many } from "./format.js";
import { change, state } from "./state.js";
import { inPair } from "./doubt.js";
import { endId, kindClass } from "./model.js";

const page = 50;
let rows = [];
let shown = page;
let select = () => {};

const columns = [
  { id: "src", title: "Source", key: p => endName(p.src) },
  { id: "dst", title: "Destination", key: p => endName(p.dst) },
  { id: "bytes", title: "Bytes", number: true, key: p => p.bytes },
  { id: "packets", title: "Packets", number: true, key: p => p.packets },
  { id: "flows", title: "Flows", number: true, key: p => p.flows },
  { id: "seen", title: "Last seen", number: true, key: p => Date.parse(p.last_seen) || 0 },
  { id: "verdict", title: "Verdict", key: p => p.verdict || "" },
];

export function start(onSelect) {
  select = onSelect;
  ownWidth($("pairs-table"));
  $("pairs-table").tHead.rows[0].append(...columns.map(c => el("th", { scope: "col", class: c.number ? "number" : "", data: { column: c.id } },
    el("button", { type: "button", text: c.title, click: () => sortBy(c) }))));
  $("pairs-more").addEventListener("click", () => {
    shown += 2 * page;
    render();
  });
  $("pairs-table").tBodies[0].addEventListener("click", e => {
    const b = e.target.closest("button");
    if (b) select({ id: b.dataset.end });
  });
}

// A second press turns the order around: "bytes" is largest first, "-bytes" smallest. The list is
// short again then. The change renders it.
function sortBy(column) {
  shown = page;
  change({ sort: state.sort === column.id ? `-${column.id}` : column.id });
}

export function update(pairs, other) {
  rows = pairs;
  const rest = other && other.pairs > 0 ? `${many(other.pairs, "smaller pair is", "smaller pairs are")} not listed: ${bytes(other.bytes)}, ${many(other.flows, "flow")}.`
    : other && other.bytes > 0 ? `${bytes(other.bytes)} of pairs that are not listed.` : "";
  setText($("pairs-other"), rest);
  render();
}

function sorted() {
  const turned = state.sort.startsWith("-");
  const c = columns.find(x => x.id === state.sort.replace("-", "")) || columns[2];
  const sign = (c.number ? -1 : 1) * (turned ? -1 : 1);
  for (const th of $("pairs-table").tHead.rows[0].cells) {
    if (th.dataset.column === c.id) th.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  }
  const before = (a, b) => (a[0] < b[0] ? sign > 0 : a[0] > b[0] ? sign < 0 : b[1].bytes < a[1].bytes);
  return first(rows.map(p => [c.key(p), p]), shown, before).map(k => k[1]);
}

// first returns the first ones of a list in an order, without putting all of it in order.
function first(list, most, before) {
  const top = [];
  for (const x of list) {
    if (top.length === most && !before(x, top[most - 1])) continue;
    let low = 0, high = top.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (before(x, top[middle])) high = middle;
      else low = middle + 1;
    }
    top.splice(low, 0, x);
    if (top.length > most) top.pop();
  }
  return top;
}

export function render() {
  const list = sorted();
  const most = Math.max(1, ...list.map(p => p.bytes));
  const table = $("pairs-table"), body = table.tBodies[0];
  table.classList.toggle("plain", !rows.some(p => p.verdict));
  table.classList.toggle("dated", list.some(p => isDated(p.last_seen)));
  while (body.rows.length > list.length) body.deleteRow(-1);
  inFrames(table, list, 10, (p, i) => fill(body.rows[i] || body.appendChild(blank()), p, most));
  setText($("pairs-count"), rows.length ? many(rows.length, "pair") : "");
  const left = rows.length - list.length;
  $("pairs-more").hidden = left <= 0;
  setText($("pairs-more"), `Show ${count(Math.min(left, 2 * page))} more of ${count(left)}`);
}

// blank makes a row whose cells fill changes in place, so that the focus stays.
function blank() {
  const tr = el("tr");
  for (const c of columns) {
    const td = el("td", { class: c.number ? "number" : "who", data: { title: c.title } });
    if (c.id === "src" || c.id === "dst") td.append(el("button", { type: "button", class: "end" }, el("span", { class: "ns" }), el("span", { class: "name" })));
    tr.append(td);
  }
  return tr;
}

function fill(tr, p, most) {
  const [src, dst, size, packets, flows, seen, verdict] = tr.cells;
  end(src.firstChild, p.src);
  end(dst.firstChild, p.dst);
  const counts = p.flows > 0; // or all its packets are counted elsewhere
  setText(size, counts ? bytes(p.bytes) : "–");
  size.title = counts ? many(p.bytes, "byte") : "Other records count these packets";
  size.style.setProperty("--part", `${((p.bytes / most) * 100).toFixed(1)}%`);
  setText(packets, counts ? count(p.packets) : "–");
  setText(flows, counts ? count(p.flows) : "–");
  setText(seen, clock(p.last_seen));
  setText(verdict, p.verdict || "");
  const doubt = inPair(p);
  unsure(src, doubt.src, "this name is doubtful");
  unsure(dst, doubt.dst, "this name is doubtful");
  verdict.className = `verdict ${p.verdict === "dropped" ? "dropped" : p.verdict === "allowed" ? "allowed" : p.verdict === "mixed" ? "mixed" : ""}`;
  unsure(verdict, doubt.verdict, "which policy decided is doubtful");
  tr.dataset.bytes = p.bytes;
  tr.dataset.src = endId(p.src);
  tr.dataset.dst = endId(p.dst);
}

// unsure marks a cell that is in doubt in some flows.
function unsure(cell, flows, what) {
  cell.classList.toggle("doubtful", flows > 0);
  cell.title = flows > 0 ? `In ${many(flows, "flow")} ${what}` : "";
}

function end(button, e) {
  button.className = `end ${kindClass(e)}`;
  button.dataset.end = endId(e);
  button.title = `${e.kind && e.kind !== "none" ? e.kind : "outside"} ${endName(e)}`;
  setText(button.firstChild, e.namespace ? `${e.namespace}/` : "");
  setText(button.lastChild, e.name || "outside");
}
