// What the view shows, kept in the address after the #, so that a link holds it.

const defaults = { filter: "", since: "", until: "", open: "auto", at: "", sort: "bytes" };

export const state = { ...defaults };
const listeners = [];

// onChange calls f(names of what has changed) after each change.
export function onChange(f) {
  listeners.push(f);
}

function apply(next) {
  const changed = new Set(Object.keys(defaults).filter(name => state[name] !== next[name]));
  if (changed.size === 0) return changed;
  Object.assign(state, next);
  for (const f of listeners) f(changed);
  return changed;
}

function parse() {
  const from = new URLSearchParams(location.hash.slice(1));
  const next = {};
  for (const name of Object.keys(defaults)) next[name] = from.get(name) ?? defaults[name];
  return next;
}

function write(keep) {
  const to = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value !== defaults[name]) to.set(name, value);
  }
  const address = location.pathname + location.search + (to.size ? `#${to}` : "");
  history[keep ? "pushState" : "replaceState"](null, "", address);
}

// change sets some parts. A new filter or window is a step that "back" undoes.
export function change(parts) {
  const changed = apply({ ...state, ...parts });
  if (changed.size > 0) write(changed.has("filter") || changed.has("since") || changed.has("until"));
}

export function load() {
  Object.assign(state, parse());
  addEventListener("hashchange", () => apply(parse()));
  addEventListener("popstate", () => apply(parse()));
}

// query has what all questions to the API have in common.
export const query = () => ({ filter: state.filter, since: state.since, until: state.until });
