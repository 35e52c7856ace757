// The panel beside the page: what is known of an end, a group, a link or an address.

import { $, el, nextFrame } from "./dom.js";
import { bytes, count, many, moment, quote, volume } from "./format.js";
import { get } from "./api.js";
import { change, query } from "./state.js";
import { inEnd } from "./doubt.js";
import { hasField, narrow } from "./filter.js";
import { current, mark, title } from "./map.js";
import { isOutside, others, remaining } from "./model.js";
import { destination, sides, source } from "./names.js";

let back = null; // what had the focus before
let turn = 0;

export function close() {
  if ($("panel").hidden) return;
  shown(false);
  mark("");
  change({ at: "" });
  turn++;
  if (back?.isConnected) back.focus();
}

// select shows something: { id } of an end or group, { link }, or { address, time }.
export function select(what) {
  if (document.activeElement && !$("panel").contains(document.activeElement)) back = document.activeElement;
  if (what.address) return open(`Why ${what.address}`, [reasons(what.address, what.time)], "");
  if (what.link) return open(`${title(what.link.from)} → ${title(what.link.to)}`, linkParts(what.link), what.link.key);
  const end = current().ends.get(what.id);
  const group = current().groups.find(g => g.id === what.id);
  if (end) open(end.namespace ? `${end.namespace}/${end.name}` : end.name, endParts(end), end.id);
  else if (group) open(group.title, groupParts(group), group.id);
  else if (what.id === others) open("More namespaces", [list(remaining(current()).map(g => ({ end: { ...g, css: "workload", name: g.title }, bytes: g.bytes })))], others);
  else return;
  change({ at: end || group ? what.id : "" });
}

// shown shows or hides the panel. The page makes room in the frame after, since that moves much.
function shown(on) {
  $("panel").hidden = !on;
  nextFrame().then(() => document.body.classList.toggle("aside", !$("panel").hidden));
}

function open(heading, parts, id) {
  turn++;
  mark(id);
  const panel = $("panel");
  panel.replaceChildren(el("div", { class: "head" }, el("h2", { id: "panel-title", text: heading }),
    el("button", { type: "button", class: "icon", "aria-label": "Close", text: "×", click: close })), ...parts);
  shown(true);
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
}

const fact = (name, value) => el("div", { class: "fact" }, el("dt", { text: name }), el("dd", { text: value }));

function linkParts(l) {
  const side = id => el("button", { type: "button", text: title(id), click: () => select({ id: id.replace(/^more:/, "") }) });
  return [el("dl", {}, fact("Bytes", volume(l.bytes)), fact("Packets", count(l.packets)), fact("Flows", count(l.flows)), fact("Pairs", count(l.pairs)),
    ...(l.fate ? [fact("Verdict", l.fate)] : [])),
    el("p", { class: "actions" }, side(l.from), ...(l.from === l.to ? [] : [side(l.to)]))];
}

// either is a condition that holds if one of the ends does.
const either = parts => `(${sides().map(p => parts.map(([field, v]) => `${p}${field} == ${quote(v)}`).join(" && ")).map(c => (parts.length > 1 ? `(${c})` : c)).join(" || ")})`;

// condition selects the records of an end.
export function condition(end) {
  if (!isOutside(end)) {
    const parts = [["WorkloadKind", end.kind], ["Workload", end.name]];
    return either(end.namespace ? [["Namespace", end.namespace], ...parts] : parts);
  }
  const label = end.name !== "outside" && ["SubnetLabel", "Country"].filter(f => hasField(`${source()}${f}`));
  if (label && label.length) return `(${label.map(f => either([[f, end.name]])).join(" || ")})`;
  return either([["Workload", ""]]);
}

function sums(list) {
  const sent = list.reduce((n, e) => n + e.sent, 0), received = list.reduce((n, e) => n + e.received, 0);
  const size = sent + received > 0 ? bytes : volume;
  return [fact("Sent", size(sent)), fact("Received", size(received))];
}

function groupParts(group) {
  const ids = new Set(group.ends.map(e => e.id));
  const parts = [el("dl", {}, ...sums(group.ends), fact(group.id.startsWith("ns:") ? "Workloads" : "Ends", count(group.ends.length)))];
  if (group.id.startsWith("ns:")) {
    parts.push(el("p", { class: "actions" }, el("button", { type: "button", text: "Only this namespace", click: () => narrow(either([["Namespace", group.title]])) })));
  }
  return [...parts, ...peers(l => ids.has(l.from.id) !== ids.has(l.to.id), l => (ids.has(l.from.id) ? l.to : l.from), "Talks with")];
}

function endParts(end) {
  const why = el("div", { class: "why" });
  const ask = el("button", { type: "button", text: "Why this name?", click: () => explainEnd(end, why) });
  return [el("dl", {}, fact("Kind", end.kind === "none" ? "outside the cluster" : end.kind), ...(end.namespace ? [fact("Namespace", end.namespace)] : []), ...sums([end])),
    ...(inEnd(end.id) ? [el("p", { class: "warn", text: `In ${many(inEnd(end.id), "flow")} its name is doubtful: see the live list, or ask why.` })] : []),
    el("p", { class: "actions" }, el("button", { type: "button", text: "Only this", click: () => narrow(condition(end)) }), ask), why,
    ...peers(l => l.from.id === end.id || l.to.id === end.id, l => (l.from.id === end.id ? l.to : l.from), "Talks with")];
}

// peers lists those at the other end of links, by bytes.
function peers(wanted, other, heading) {
  const found = new Map();
  for (const l of current().links) {
    if (!wanted(l)) continue;
    const o = other(l);
    const sum = found.get(o.id) || { end: o, bytes: 0, dropped: false };
    sum.bytes += l.pair.bytes;
    sum.dropped ||= l.pair.verdict === "dropped" || l.pair.verdict === "mixed";
    found.set(o.id, sum);
  }
  const all = [...found.values()].sort((a, b) => b.bytes - a.bytes);
  if (all.length === 0) return [];
  return [el("h3", { text: heading }), list(all.slice(0, 15)), ...(all.length > 15 ? [el("p", { class: "hint", text: `and ${count(all.length - 15)} more` })] : [])];
}

// list has a button for each of some ends or groups, and its bytes.
const list = ends => el("ul", { class: "peers" }, ...ends.map(p => el("li", {},
  el("button", { type: "button", class: `end ${p.end.css}`, click: () => select({ id: p.end.id }) },
    el("span", { class: "ns", text: p.end.namespace ? `${p.end.namespace}/` : "" }), el("span", { class: "name", text: p.end.name })),
  el("span", { class: p.dropped ? "number dropped" : "number", text: volume(p.bytes) }))));

// explainEnd finds addresses of an end in its newest records, and explains the first one.
async function explainEnd(end, into) {
  const mine = turn;
  into.replaceChildren(el("p", { class: "hint", text: "Looking for its addresses…" }));
  try {
    const q = query();
    const both = q.filter ? `(${q.filter}) && ${condition(end)}` : condition(end);
    const { flows = [] } = await get("flows", { ...q, filter: both, limit: 200 });
    if (mine !== turn) return;
    const found = new Map();
    for (const r of flows) {
      for (const [p, address] of [[source(), r.SrcAddr], [destination(), r.DstAddr]]) {
        if (is(r, p, end) && address && !found.has(address)) found.set(address, new Date(Number(r.TimeReceivedNs || r.TimeReceived * 1e9) / 1e6).toISOString());
      }
    }
    const some = [...found].slice(0, 12);
    if (some.length === 0) return into.replaceChildren(el("p", { class: "hint", text: "No record in memory has an address of it any more." }));
    const answer = el("div");
    const show = ([address, time]) => answer.replaceChildren(reasons(address, time));
    into.replaceChildren(el("p", { class: "actions" }, ...some.map(a => el("button", { type: "button", class: "small mono", text: a[0], click: () => show(a) }))), answer);
    show(some[0]);
  } catch (error) {
    into.replaceChildren(el("p", { class: "problem", text: error.message }));
  }
}

const is = (r, p, end) => (isOutside(end) ? !r[`${p}Workload`] : r[`${p}Workload`] === end.name && (r[`${p}Namespace`] || "") === end.namespace);

// reasons asks why an address has its name, and shows the answer when it comes.
function reasons(address, time) {
  const box = el("div", { class: "why" }, el("p", { class: "hint", text: "Asking…" }));
  get("explain", { addr: address, time }).then(
    a => box.replaceChildren(...answerParts(a)),
    e => box.replaceChildren(el("p", { class: "problem", text: `There is no explanation: ${e.message}.` })));
  return box;
}

// placeText says which files name an address that nobody in the cluster has.
function placeText(p) {
  const label = p.label && `-networks: ${p.label}, the label of ${p.network}`;
  const system = [p.as_number && `AS ${p.as_number}`, p.as_name].filter(Boolean).join(" ");
  const origin = [p.country && `country ${p.country}`, system].filter(Boolean).join(", ");
  return `${[label, origin && `-geoip: ${origin}`].filter(Boolean).join("; ")}.`;
}

function answerParts(a) {
  const chosen = a.chosen;
  const name = chosen ? [chosen.namespace, chosen.name].filter(Boolean).join("/") : "nobody";
  const parts = [el("p", {}, el("code", { text: a.addr }), el("span", { text: ` at ${moment(a.time)} is ` }), el("strong", { text: name }), el("span", { text: chosen ? ` (${chosen.kind})` : "" })),
    el("p", { class: "because", text: `Rule “${a.rule}”: ${a.why}.` })];
  if (a.place) parts.push(el("p", { text: placeText(a.place) }));
  if (chosen?.workload && chosen.workload !== chosen.name) parts.push(el("p", { text: `Its workload is ${chosen.workload_kind} ${chosen.workload}${chosen.node ? `, on node ${chosen.node}` : ""}.` }));
  if (chosen?.warn) parts.push(el("p", { class: "warn", text: `Doubtful: ${chosen.warn}` }));
  if (a.owners?.length) {
    parts.push(el("h3", { text: "Who had the address" }), el("ol", { class: "owners" }, ...a.owners.map(o => el("li", { class: o.uid && o.uid === chosen?.uid ? "chosen" : "" },
      el("strong", { text: [o.namespace, o.name].filter(Boolean).join("/") }), el("span", { text: ` ${o.kind}${o.as ? `, ${o.as}` : ""}${o.network ? `, network ${o.network}` : ""}` }),
      el("div", { class: "hint", text: `${o.from ? `from ${moment(o.from)}${o.soft ? " or later" : ""}` : "since ever"}${o.from_by ? ` (${o.from_by})` : ""}${o.to ? `, until ${moment(o.to)}${o.to_by ? ` (${o.to_by})` : ""}` : ", until now"}` })))));
  }
  return parts;
}

// announce shows what is wrong with the page as a whole, and buttons for what helps.
export function announce(text, ...buttons) {
  const banner = $("banner");
  banner.hidden = text === "";
  if (banner.firstChild?.textContent !== text) banner.replaceChildren(el("p", { text }), ...buttons);
}
