// Doubtful names and verdicts. The API is asked for the pairs of those records that have a
// warning, which takes it as long as to read all records: so seldom.

import { get } from "./api.js";
import { hasField } from "./filter.js";
import { endId } from "./model.js";
import { destination, source } from "./names.js";
import { query } from "./state.js";

const seldom = 20000; // milliseconds between questions
const nothing = () => ({ ends: new Map(), pairs: new Map() });

let found = nothing();
let next = 0;
let asking = null; // aborts the questions under way

// inEnd is how many flows an end has whose name is doubtful, inPair the same of a pair, by "src",
// "dst" and "verdict".
export const inEnd = id => found.ends.get(id) || 0;
export const inPair = p => found.pairs.get(key(p)) || {};

const key = p => `${endId(p.src)}\n${endId(p.dst)}`;

// forget begins anew, for another filter or window.
export function forget() {
  asking?.abort();
  asking = null;
  found = nothing();
  next = 0;
}

// ask asks if it is time, and calls then once there is an answer.
export async function ask(then) {
  if (asking || performance.now() < next) return;
  const mine = (asking = new AbortController());
  const began = performance.now(), q = query(), fresh = nothing();
  try {
    for (const [what, field] of [["src", `${source()}Warn`], ["dst", `${destination()}Warn`], ["verdict", "PolicyWarn"]]) {
      if (!hasField(field)) continue;
      const condition = `${field} != ""`;
      const { pairs = [] } = await get("pairs", { ...q, filter: q.filter ? `(${q.filter}) && ${condition}` : condition, limit: 3000 }, mine.signal);
      for (const p of pairs) {
        if (what !== "verdict") fresh.ends.set(endId(p[what]), (fresh.ends.get(endId(p[what])) || 0) + p.flows);
        fresh.pairs.set(key(p), { ...fresh.pairs.get(key(p)), [what]: p.flows });
      }
    }
  } catch {
    // The page says what is wrong where it asks for all pairs.
  }
  if (mine !== asking) return;
  asking = null;
  found = fresh;
  next = performance.now() + Math.max(seldom, 40 * (performance.now() - began));
  then();
}
