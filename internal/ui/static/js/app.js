// The page: asks the API for what the view needs, and hands the answers to its parts.

import { $, el, nextFrame, setText } from "./dom.js";
import { bytes, count, many, moment, room, setDay, span } from "./format.js";
import { get, Refused } from "./api.js";
import { state, load, change, onChange, query } from "./state.js";
import { setMapping } from "./names.js";
import * as doubt from "./doubt.js";
import * as filter from "./filter.js";
import * as map from "./map.js";
import * as table from "./table.js";
import * as chart from "./chart.js";
import * as live from "./live.js";
import * as panel from "./panel.js";

const pairsAsked = 3000;
const slowest = 30000, quickest = 5000; // milliseconds between questions

const windows = [["", "All in memory"], ["1m", "Last minute"], ["5m", "Last 5 minutes"], ["15m", "Last 15 minutes"], ["1h", "Last hour"]];

let timer = 0;
let asking = null; // aborts the questions under way
let restored = false;
let hurried = false;

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  const began = performance.now();
  let again = quickest, took = 0; // to answer, without the frames in which answers are shown
  try {
    const q = query();
    const [summary, pairs, series] = await Promise.all([
      get("summary", {}, mine.signal),
      get("pairs", { ...q, limit: pairsAsked }, mine.signal),
      get("series", { ...q, by: "namespace", buckets: 120, limit: 12 }, mine.signal),
    ]).finally(() => (took = performance.now() - began));
    if (mine !== asking) return;
    panel.announce("");
    filter.fine();
    for (const part of parts(summary, pairs, series)) {
      await nextFrame();
      if (asking && mine !== asking) return; // whoever pauses sees what has come, as a whole
      part();
    }
    if (summary.mode === "capture" && summary.records > 0) again = slowest;
  } catch (error) {
    if (mine !== asking || error.name === "AbortError") return;
    again = failed(error);
  }
  // The collector has other work: it is not asked more than a thirtieth of the time.
  again = Math.max(again, Math.min(slowest, 30 * took));
  if (!live.isPaused() && !document.hidden) timer = setTimeout(refresh, again);
}

// hold leaves the page as it is, whatever answers are still to come. What has never been shown
// is shown once.
function hold() {
  clearTimeout(timer);
  if (!restored) return;
  asking?.abort();
  asking = null;
}

// hurry asks at once when records come in while the page says that there are none.
function hurry() {
  if (hurried || $("empty").hidden || live.isPaused()) return;
  hurried = true;
  refresh();
}

function failed(error) {
  if (error instanceof Refused && error.position > 0) {
    filter.problem(error);
    panel.announce("");
    return slowest;
  }
  if (error instanceof Refused) panel.announce(`The collector refuses the question: ${error.message}. Mend the filter or the time window.`, everything());
  else panel.announce("The collector does not answer. Is it still running, and the port still forwarded? Trying again every few seconds.");
  return quickest;
}

// parts are the steps in which answers are shown, each in a frame of its own.
const parts = (summary, pairs, series) => [() => {
  filter.setVocabulary(summary);
  setDay(summary.records ? summary.newest : "");
  stats(summary);
  setText($("version"), summary.version === "unknown" ? "" : `· ${summary.version}`);
  empty(summary, pairs.pairs || []);
  chart.update({ series: [], ...series });
}, () => map.update(pairs.pairs || [], pairs.other), () => table.update(pairs.pairs || [], pairs.other), () => {
  if (setMapping(summary.mapping)) live.restart();
  else live.ensure(summary.mode);
  if (summary.records > 0) {
    doubt.ask(async () => {
      for (const draw of [map.draw, table.render]) {
        if (!live.isPaused()) draw();
        await nextFrame();
      }
    });
  }
  if (!restored && state.at) panel.select({ id: state.at });
  restored = true;
}];

function stats(s) {
  const age = s.records ? (Date.parse(s.newest) - Date.parse(s.oldest)) / 1000 : 0;
  const since = s.records ? (Date.now() - Date.parse(s.newest)) / 1000 : 0;
  const fill = s.ring?.capacity ? Math.round((100 * s.ring.bytes) / s.ring.capacity) : 0;
  const notReady = s.ready && s.ready.ready === false;
  const parts = [
    ["State", notReady ? s.ready.state || "not ready" : s.mode === "capture" ? "capture, read" : s.records === 0 ? "waiting" : since < 15 ? "receiving" : `quiet for ${span(since)}`,
      notReady ? "bad" : s.mode === "capture" ? "good" : s.records === 0 ? "" : since >= 60 ? "unsure" : "good"],
    ["In memory", s.ring ? many(s.ring.records, "record") : "–"],
    ["Reach", s.records ? `${span(age)}, to ${moment(s.newest)}` : "–"],
    ["Room", `${fill} % of ${room(s.ring?.capacity || 0)}`],
    ["Bytes seen", bytes(s.bytes || 0)],
    ["Named", s.records ? `${Math.round(s.named_percent)} %` : "–", s.records && s.named_percent < 50 ? "unsure" : ""],
    ["Exporters", count(s.exporters?.length || 0), "", (s.exporters || []).slice(0, 20).map(e => `${e.address} ${e.protocol}: ${many(e.records, "record")}`).join("\n")],
  ];
  const box = $("stats");
  if (box.children.length !== parts.length) box.replaceChildren(...parts.map(([name]) => el("div", { class: "stat" }, el("span", { class: "what", text: name }), el("span", { class: "value" }))));
  parts.forEach(([, value, css, more], i) => {
    const e = box.children[i];
    e.className = `stat ${css || ""}`;
    e.title = more || "";
    setText(e.lastChild, value);
  });
}

// everything is a button that leaves the time window.
const everything = () => el("button", { type: "button", text: "All in memory", click: () => change({ since: "", until: "" }) });

// empty says what to do where there is nothing to see.
function empty(summary, pairs) {
  const box = $("empty");
  const nothing = summary.records === 0, none = pairs.length === 0;
  box.hidden = !nothing && !none;
  document.body.classList.toggle("nothing", nothing);
  document.body.classList.toggle("none", none);
  if (box.hidden) {
    hurried = false;
    return;
  }
  const what = nothing ? "first" : state.filter ? `filter${state.since || state.until ? " and window" : ""}` : "window";
  if (box.dataset.what === what) return;
  box.dataset.what = what;
  hurried = false;
  box.replaceChildren(...{
    first: () => [el("h2", { text: summary.mode === "capture" ? "The capture has no record" : "No datagram yet" }),
      el("p", { text: summary.mode === "capture" ? "It may hold no exports, or on other ports than those of -listen. The log says what was passed over." : `Point exporters at this collector: ${listening(summary)}. Templates may take some minutes to come.` }),
      el("p", { class: "hint", text: "This page looks again every few seconds. The log says when the first datagram comes, from whom, and what to check if none does." })],
    filter: () => [el("h2", { text: "No record matches" }), el("p", { text: "Nothing in this window satisfies the filter." }),
      el("p", { class: "actions" }, el("button", { type: "button", text: "Clear the filter", click: () => filter.set("") }), ...(state.since || state.until ? [everything()] : []))],
    window: () => [el("h2", { text: "Nothing in this window" }), el("p", { text: "No record that counts was received in it." }),
      el("p", { class: "actions" }, everything())],
  }[what.split(" ")[0]]());
}

// listening says where datagrams may go, in words: netflow://:2055 is "UDP port 2055 (netflow)".
const listening = s => (s.listen || []).map(l => {
  const [, scheme, host, port] = l.match(/^(\w+):\/\/(.*):(\d+)/) || [];
  return port ? `UDP port ${port}${host ? ` of ${host}` : ""} (${scheme})` : l;
}).join(", ");

function windowTool() {
  const select = $("window");
  const fill = () => {
    const list = windows.slice();
    const custom = state.until || !list.some(w => w[0] === state.since);
    const name = t => (/^\d{4}-/.test(t) ? moment(t) : t);
    if (custom) list.push(["custom", `${name(state.since) || "begin"} – ${name(state.until) || "newest"}`]);
    select.replaceChildren(...list.map(([value, text]) => el("option", { value, text })));
    select.value = custom ? "custom" : state.since;
  };
  select.addEventListener("change", () => select.value !== "custom" && change({ since: select.value, until: "" }));
  onChange(changed => (changed.has("since") || changed.has("until")) && fill());
  fill();
}

function themeTool() {
  const names = { "": "Auto", light: "Light", dark: "Dark" };
  const button = $("theme");
  const set = theme => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    setText(button, names[theme]);
    button.setAttribute("aria-label", `Colours: ${theme || "as the system has them"}`);
    try {
      localStorage.setItem("theme", theme);
    } catch { /* the choice is not kept then */ }
  };
  let kept = "";
  try {
    kept = localStorage.getItem("theme") || "";
  } catch { /* no storage */ }
  if (kept in names && kept) set(kept);
  button.addEventListener("click", () => set({ "": "light", light: "dark", dark: "" }[document.documentElement.dataset.theme || ""]));
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    setText($("link"), "Copied");
  } catch {
    prompt("The link to this view:", location.href); // without https the clipboard is closed
  }
  setTimeout(() => setText($("link"), "Copy link"), 1500);
}

function keys(e) {
  if (e.key === "Escape") return panel.close();
  if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName)) return;
  if (e.key === "/") $("filter").focus();
  else if (e.key === "p") live.pause(!live.isPaused());
  else return;
  e.preventDefault();
}

load();
windowTool();
themeTool();
filter.start();
map.start(panel.select);
table.start(panel.select);
chart.start();
live.start(panel.select, hurry);
$("link").addEventListener("click", copyLink);
addEventListener("keydown", keys);
addEventListener("hashchange", () => (state.at ? panel.select({ id: state.at }) : panel.close()));
addEventListener("pause", () => (live.isPaused() ? hold() : refresh()));
document.addEventListener("visibilitychange", () => document.hidden || live.isPaused() || refresh());
onChange(changed => {
  if (changed.has("filter") || changed.has("since") || changed.has("until")) {
    doubt.forget();
    hurried = false;
    refresh();
    live.restart();
  }
  if (changed.has("open")) map.draw();
  if (changed.has("sort")) table.render();
});
refresh();
live.restart();
