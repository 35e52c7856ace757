// The filter box: completion of fields, operators and names, and errors where they are.

import { $, el, debounce } from "./dom.js";
import { change, state, onChange } from "./state.js";
import { quote } from "./format.js";
import { sides } from "./names.js";

const most = 12;
let vocabulary = { fields: [], namespaces: [], workloads: [] };
let choices = [];
let active = -1;
let refused = ""; // the expression that was refused last

export function setVocabulary(summary) {
  vocabulary = { fields: summary.fields || [], namespaces: summary.namespaces || [], workloads: summary.workloads || [] };
}

export const hasField = name => vocabulary.fields.some(f => f.name === name);

export function start() {
  const input = $("filter");
  const settle = debounce(apply, 700);
  input.addEventListener("input", () => {
    $("filter-clear").hidden = input.value === "";
    suggest(false);
    settle();
  });
  input.addEventListener("keydown", e => key(e, settle));
  input.addEventListener("blur", () => setTimeout(close, 150));
  input.addEventListener("change", apply);
  $("filter-clear").addEventListener("click", () => {
    set("");
    input.focus();
  });
  $("completions").addEventListener("pointerdown", e => {
    const item = e.target.closest("li");
    if (item) accept(choices[Number(item.dataset.index)]);
    e.preventDefault(); // the box keeps the focus
  });
  onChange(changed => changed.has("filter") && show());
  show();
}

// set makes an expression the filter.
export function set(expression) {
  $("filter").value = expression;
  apply();
  show();
}

// narrow adds a condition to the filter.
export function narrow(condition) {
  const old = state.filter.trim();
  set(old === "" ? condition : /\|\||\bor\b|\?/.test(old) ? `(${old}) && ${condition}` : `${old} && ${condition}`);
}

function show() {
  if ($("filter").value.trim() !== state.filter) $("filter").value = state.filter;
  $("filter-clear").hidden = $("filter").value === "";
}

function apply() {
  const value = $("filter").value.trim();
  if (value !== refused) fine();
  change({ filter: value });
}

// problem shows what is wrong with the filter, and where: position counts characters from 1 on.
export function problem(error) {
  const box = $("filter-error"), text = state.filter;
  refused = text;
  $("filter").setAttribute("aria-invalid", "true");
  const lines = [el("strong", { text: error.message })];
  if (error.position > 0) {
    const at = [...text], i = Math.min(error.position - 1, at.length);
    const end = i + Math.max(1, (at.slice(i).join("").match(/^\w+/) || [" "])[0].length);
    lines.push(el("code", {}, el("span", { text: at.slice(Math.max(0, i - 40), i).join("") }),
      el("mark", { text: at.slice(i, end).join("") || "␣" }), el("span", { text: at.slice(end, end + 40).join("") })));
  }
  lines.push(el("span", { text: "Mend it there, or clear the filter. Until then the view stays as it was." }));
  box.replaceChildren(...lines);
  box.hidden = false;
}

export function fine() {
  refused = "";
  $("filter").removeAttribute("aria-invalid");
  $("filter-error").hidden = true;
}

function key(e, settle) {
  const open = !$("completions").hidden;
  if (e.key === "ArrowDown" || e.key === "ArrowUp") {
    if (!open) suggest(true);
    else activate((active + (e.key === "ArrowDown" ? 1 : -1) + choices.length) % choices.length);
    e.preventDefault();
  } else if ((e.key === "Enter" || e.key === "Tab") && open && active >= 0) {
    accept(choices[active]);
    e.preventDefault();
  } else if (e.key === "Enter") {
    settle.cancel();
    close();
    apply();
  } else if (e.key === "Escape" && open) {
    close();
    e.stopPropagation();
  } else if (e.key === " " && e.ctrlKey) {
    suggest(true);
    e.preventDefault();
  }
}

const value = /([A-Za-z_]\w*)\s*(?:==|!=|(?:not\s+)?in\s*\[[^\]]*?|(?:not\s+)?(?:startsWith|endsWith|contains|matches))\s*(?:"([^"]*)|([\w.-]*))$/;

// completions returns what could follow before the caret: what it inserts in place of the last
// characters, and what it is.
function completions(before, all, words) {
  const inValue = before.match(value);
  if (inValue) {
    const typed = inValue[2] ?? inValue[3] ?? "", quoted = inValue[2] !== undefined;
    const names = valuesOf(inValue[1], words);
    return rank(names, typed).map(v => ({ insert: quote(v), label: v, about: inValue[1], cut: typed.length + (quoted ? 1 : 0) }));
  }
  if ((before.match(/"/g) || []).length % 2 === 1) return []; // in other text
  const after = before.match(/([A-Za-z_]\w*)\s+$/);
  const field = after && words.fields.find(f => f.name === after[1]);
  if (field) return operators(field).map(o => ({ insert: `${o} `, label: o, about: "", cut: 0 }));
  const typed = before.match(/[A-Za-z_][\w-]*$/)?.[0] ?? "";
  if (typed === "" && !all) return [];
  const cut = typed.length;
  const fields = rank(words.fields.map(f => f.name), typed).map(name => ({ insert: `${name} `, label: name, about: kindOf(name, words), cut }));
  if (typed.length < 2) return fields;
  const ends = (attr, names) => rank(names, typed).slice(0, 4).map(n => ({ insert: `(${sides().map(p => `${p}${attr} == ${quote(n)}`).join(" || ")}) `, label: n, about: `either end, ${attr.toLowerCase()}`, cut }));
  return [...ends("Namespace", words.namespaces), ...ends("Workload", unique(words.workloads.map(w => w.name))), ...fields];
}

const kindOf = (name, words) => words.fields.find(f => f.name === name)?.kind || "";
const unique = list => [...new Set(list)];

function operators(field) {
  if (field.kind === "number" || field.kind === "uint") return ["==", "!=", "<", ">", "in"];
  return ["==", "!=", "in [", "startsWith", "contains", "matches"];
}

function valuesOf(field, words) {
  const name = field.toLowerCase().replaceAll("_", "");
  if (name.endsWith("namespace")) return words.namespaces;
  if (name.endsWith("workloadkind")) return unique(words.workloads.map(w => w.kind));
  if (name.endsWith("workload")) return unique(words.workloads.map(w => w.name));
  if (name === "protoname") return ["TCP", "UDP", "ICMP", "IPv6-ICMP", "SCTP"];
  if (name === "etypename") return ["IPv4", "IPv6", "ARP"];
  if (name === "verdict") return ["allowed", "dropped"];
  return [];
}

// rank returns those with the text in them, those that begin with it first.
function rank(names, typed) {
  const low = typed.toLowerCase();
  const at = new Map();
  for (const n of names) {
    const i = n.toLowerCase().indexOf(low);
    if (i >= 0 && n !== "") at.set(n, i === 0 ? 0 : 1);
  }
  return [...at.keys()].sort((a, b) => at.get(a) - at.get(b) || (a < b ? -1 : 1));
}

function suggest(all) {
  const input = $("filter");
  choices = completions(input.value.slice(0, input.selectionStart), all, vocabulary).slice(0, most);
  const list = $("completions");
  list.replaceChildren(...choices.map((c, i) => el("li", { id: `completion-${i}`, role: "option", "aria-selected": "false", data: { index: i } },
    el("span", { text: c.label }), el("span", { class: "about", text: c.about }))));
  list.hidden = choices.length === 0;
  input.setAttribute("aria-expanded", String(choices.length > 0));
  active = -1;
  input.removeAttribute("aria-activedescendant");
}

function activate(i) {
  active = i;
  [...$("completions").children].forEach((e, n) => e.setAttribute("aria-selected", String(n === i)));
  $("filter").setAttribute("aria-activedescendant", `completion-${i}`);
  $(`completion-${i}`).scrollIntoView({ block: "nearest" });
}

function accept(choice) {
  const input = $("filter"), caret = input.selectionStart;
  const head = input.value.slice(0, caret - choice.cut) + choice.insert;
  const tail = input.value.slice(caret).replace(/^"/, choice.insert.endsWith('"') ? "" : '"');
  input.value = head + tail;
  input.setSelectionRange(head.length, head.length);
  close();
  input.dispatchEvent(new Event("input"));
  if (choice.insert.endsWith('"')) close();
}

function close() {
  $("completions").hidden = true;
  $("filter").setAttribute("aria-expanded", "false");
  $("filter").removeAttribute("aria-activedescendant");
  active = -1;
}
