// The list of records as they come.

import { $, el, finish, inFrames, ownWidth, setText } from "./dom.js";
import { bytes, clock, count, isDated, many } from "./format.js";
import { destination, further, prefixOf, source } from "./names.js";
import { query } from "./state.js";
import { follow, get } from "./api.js";

const kept = 200; // rows
const every = 300; // milliseconds between changes of the list
const columns = ["Time", "Source", "Destination", "Protocol", "Bytes", "Packets", "Direction", "Verdict", "Exporter"];

let stop = null;
let paused = false;
let waiting = [];
let skipped = 0;
let select = () => {}, arrived = () => {};
let past = false; // a capture: nothing more will come
let failed = false; // the list could not be begun, or has ended
let running = 0; // counts calls of restart, so that late answers are known as such

export function start(onSelect, onRecords) {
  select = onSelect;
  arrived = onRecords;
  ownWidth($("live-table"));
  $("live-table").tHead.rows[0].append(...columns.map((title, i) => el("th", { scope: "col", class: i === 4 || i === 5 ? "number" : "", text: title })));
  $("pause").addEventListener("click", () => pause(!paused));
  $("live-table").tBodies[0].addEventListener("click", e => {
    const b = e.target.closest("button");
    if (b) select({ address: b.dataset.address, time: b.dataset.time });
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : paused || restart()));
  setInterval(flush, every);
}

export const isPaused = () => paused;

// ensure begins again what has failed, now that the collector answers.
export function ensure(mode) {
  if (failed || past !== (mode === "capture")) {
    past = mode === "capture";
    restart();
  }
}

export function pause(on) {
  paused = on;
  const b = $("pause");
  b.setAttribute("aria-pressed", String(on));
  setText(b, on ? "Resume" : "Pause");
  if (on) {
    close();
    finish($("live-table"));
    say(`paused, with ${many($("live-table").tBodies[0].rows.length, "record")}`);
  } else restart();
  dispatchEvent(new Event("pause"));
}

function close() {
  stop?.();
  stop = null;
}

// restart shows the newest records that match, and then those that come.
export async function restart() {
  close();
  waiting = [];
  skipped = 0;
  failed = false;
  const turn = ++running;
  if (paused) return;
  const parameters = query();
  try {
    const { flows = [] } = await get("flows", { ...parameters, limit: 100 });
    if (turn !== running || paused) return;
    const body = $("live-table").tBodies[0];
    while (body.rows.length > flows.length) body.deleteRow(-1);
    inFrames($("live-table"), ordered(flows), 3, (r, i) => (body.rows[i] ? body.rows[i].replaceWith(row(r)) : body.append(row(r))));
    say(flows.length === 0 ? "no record matches yet" : "");
  } catch {
    failed = turn === running; // the page says what is wrong where it asks for pairs
    return;
  }
  if (parameters.until) return say("the newest of a span in the past");
  if (past) return say("the newest of the capture");
  stop = follow({ filter: parameters.filter }, {
    record: r => waiting.length < 5 * kept ? waiting.push(r) : skipped++,
    skipped: n => (skipped += n),
    open: () => say("waiting for records"),
    lost: forGood => {
      failed = forGood;
      say("the connection is lost; trying again");
    },
  });
}

const received = r => Number(r.TimeReceivedNs || 0) || Number(r.TimeReceived || 0) * 1e9;
const ordered = list => [...list].sort((a, b) => received(b) - received(a));

// flush lists what has come, some records a frame.
function flush() {
  if (waiting.length === 0 || paused || $("live-table").hasAttribute("aria-busy")) return;
  const fresh = waiting.splice(0).slice(-kept);
  const body = $("live-table").tBodies[0];
  inFrames($("live-table"), fresh, 5, r => {
    body.prepend(row(r));
    if (body.rows.length > kept) body.deleteRow(-1);
  });
  say(skipped ? `live; ${many(skipped, "record")} came too fast to be listed` : "live");
  arrived();
}

const say = text => setText($("live-state"), text);

function row(r) {
  const time = new Date(received(r) / 1e6);
  const verdict = r.Verdict || "";
  if (verdict) $("live-table").classList.add("judged");
  if (isDated(time)) $("live-table").classList.add("dated");
  const cells = [
    el("td", { class: "time", text: clock(time) }),
    el("td", { class: "who" }, end(r, "Src", source(), time)),
    el("td", { class: "who" }, end(r, "Dst", destination(), time)),
    el("td", { text: r.ProtoName || r.EtypeName || (r.Proto ? String(r.Proto) : "–") }),
    el("td", { class: "number", text: bytes(r.Bytes || 0) }),
    el("td", { class: "number", text: count(r.Packets || 0) }),
    el("td", { text: direction(r) }),
    el("td", { class: `verdict ${verdict === "dropped" ? "dropped" : verdict ? "allowed" : ""}`, title: policy(r) || null }, ...(verdict ? [`${verdict} `, el("span", { class: "by", text: policy(r) })] : [])),
    el("td", { class: "via", text: r[`${prefixOf("SamplerAddress")}Workload`] || r.SamplerAddress || "" }, ...further().flatMap(m => also(r, m))),
  ];
  [source(), destination()].forEach((p, i) => cells[i + 1].append(...doubtful(r[`${p}Warn`])));
  cells[7].append(...doubtful(r.PolicyWarn));
  const once = r.CountsOnce !== false;
  return el("tr", { class: once ? "" : "again", title: once ? null : "another record counts these packets" }, ...cells);
}

// doubtful is a mark that says what is in doubt, if anything is.
const doubtful = text => (text ? [el("span", { class: "doubt", role: "img", "aria-label": text, title: text, text: "?" })] : []);

// also names a further end of a record, such as the next hop.
function also(r, { field, prefix }) {
  const name = r[`${prefix}Workload`] || r[`${prefix}Pod`] || r[`${prefix}SubnetLabel`];
  if (!name) return [];
  const title = `${field} ${r[field]}${r[`${prefix}Pod`] ? `, pod ${r[`${prefix}Pod`]}` : ""}`;
  return [el("span", { class: "also", title, text: ` ${field}: ${r[`${prefix}Namespace`] ? `${r[`${prefix}Namespace`]}/` : ""}${name}` }), ...doubtful(r[`${prefix}Warn`])];
}

// A direction of 0 is ingress or none: the JSON does not tell which.
const direction = r => (r.FlowDirection === 1 ? "egress" : "");

// policy is what decided: its kind, name, direction and rule.
function policy(r) {
  const name = [r.PolicyNamespace, r.PolicyName].filter(Boolean).join("/");
  return [r.PolicyKind, name, r.PolicyDirection, r.PolicyRule && `rule ${r.PolicyRule}`].filter(Boolean).join(" ");
}

// end shows an end by its names, and what else the record has of it: side is Src or Dst.
function end(r, side, prefix, time) {
  const of = name => r[prefix + name] || "";
  const address = r[`${side}Addr`] || "", name = of("Workload") || of("Pod");
  const label = name || of("SubnetLabel") || of("Country") || address || r[`${side}Mac`] || "–";
  const port = r.Proto === 6 || r.Proto === 17 || r.Proto === 132 ? `:${r[`${side}Port`] || 0}` : "";
  const css = !name ? "outside" : of("WorkloadKind") === "Service" ? "service" : /^(Node|EgressIP)$/.test(of("WorkloadKind")) ? "node" : "workload";
  const parts = [["ns", of("Namespace") && `${of("Namespace")}/`], ["name", label], ["port", port]].filter(p => p[1]).map(([css, text]) => el("span", { class: css, text }));
  if (!address) return el("span", { class: `end ${css}` }, ...parts);
  const title = [parts.map(p => p.textContent).join(""), of("Pod") && `pod ${of("Pod")}`, label !== address && address, "why this name?"].filter(Boolean).join(", ");
  return el("button", { type: "button", class: `end ${css}`, title, data: { address, time: time.toISOString() } }, ...parts);
}
