// Pairs, as the API has them, made into what the map draws: groups of ends, and links.

export const outside = "outside", nodes = "nodes", wide = "cluster";

const unnamed = new Set(["", "none", "outside", "external"]);

export const isOutside = end => !end.namespace && unnamed.has((end.kind || "").toLowerCase());
export const endId = end => `${isOutside(end) ? "none" : end.kind}/${end.namespace || ""}/${end.name || outside}`;

// groupOf is the namespace of an end, or what stands for one.
function groupOf(end) {
  if (end.namespace) return `ns:${end.namespace}`;
  if (isOutside(end)) return outside;
  return end.kind === "Node" ? nodes : wide;
}

function groupTitle(id) {
  if (id.startsWith("ns:")) return id.slice(3);
  return { [outside]: "Outside", [nodes]: "Nodes", [wide]: "Cluster-wide", [others]: "Other namespaces" }[id] || id;
}

// kindClass tells the colour of an end.
export function kindClass(end) {
  if (isOutside(end)) return "outside";
  if (end.kind === "Service") return "service";
  if (end.kind === "Node" || end.kind === "EgressIP") return "node";
  return "workload";
}

export const others = "others"; // the groups beyond the largest ones
const groupsShown = 24;
const rowsShown = 10;

// build sums pairs up. The result has all groups with all ends, largest first.
export function build(pairs) {
  const ends = new Map(), groups = new Map();
  const end = e => {
    const id = endId(e);
    let known = ends.get(id);
    if (!known) {
      const group = groupOf(e);
      known = { id, group, kind: isOutside(e) ? "none" : e.kind, namespace: e.namespace || "", name: e.name || outside, css: kindClass(e), sent: 0, received: 0, internal: 0 };
      ends.set(id, known);
      if (!groups.has(group)) groups.set(group, { id: group, title: groupTitle(group), ends: [], bytes: 0 });
      groups.get(group).ends.push(known);
    }
    return known;
  };
  const links = pairs.map(p => {
    const from = end(p.src), to = end(p.dst);
    from.sent += p.bytes;
    to.received += p.bytes;
    groups.get(from.group).bytes += p.bytes;
    groups.get(to.group).bytes += p.bytes;
    return { from, to, pair: p };
  });
  const larger = (a, b) => b.bytes - a.bytes || (a.title < b.title ? -1 : 1);
  for (const g of groups.values()) g.ends.sort((a, b) => b.sent + b.received - a.sent - a.received || (a.id < b.id ? -1 : 1));
  return { ends, links, groups: [...groups.values()].sort(larger) };
}

// opened tells which groups show their ends. Small views are open as a whole.
export function opened(model, setting) {
  if (setting === "all") return new Set(model.groups.map(g => g.id));
  if (setting === "none") return new Set();
  if (setting !== "auto") return new Set(setting.split(","));
  return model.ends.size <= 40 ? new Set(model.groups.map(g => g.id)) : new Set();
}

// remaining are the groups that share one card, since they are the smallest.
export const remaining = model => (model.groups.length > groupsShown + 1 ? model.groups.slice(groupsShown).filter(g => g.id !== outside) : []);

// view chooses what is shown: cards with rows, and links between those, summed up, those of
// dropped packets apart (fate says which). more has how many rows beyond the first ones a group shows.
export function view(model, open, more) {
  const place = new Map(); // of an end: the id of its row or card
  const cards = [];
  let rest = null;
  const small = new Set(remaining(model));
  model.groups.forEach(g => {
    if (small.has(g)) {
      rest ??= { id: others, title: "", bytes: 0, count: 0, rows: [], hidden: 0, open: false };
      rest.bytes += g.bytes;
      rest.count++;
      rest.title = `${rest.count} more namespaces`;
      for (const e of g.ends) place.set(e.id, others);
      return;
    }
    const card = { id: g.id, title: g.title, bytes: g.bytes, count: g.ends.length, rows: [], hidden: 0, open: open.has(g.id) };
    const shown = card.open ? rowsShown + (more.get(g.id) || 0) : 0;
    g.ends.forEach((e, n) => {
      if (n < shown || (card.open && g.ends.length <= shown + 1)) {
        card.rows.push(e);
        place.set(e.id, e.id);
      } else {
        card.hidden++;
        place.set(e.id, card.open ? `more:${g.id}` : g.id);
      }
    });
    if (!card.open) card.hidden = 0;
    cards.push(card);
  });
  if (rest) cards.push(rest);
  return { cards, links: between(model.links, place), place };
}

function between(all, place) {
  const links = new Map();
  for (const { from, to, pair } of all) {
    const a = place.get(from.id), b = place.get(to.id), fate = { dropped: "dropped", mixed: "partly dropped" }[pair.verdict] || "";
    const key = `${a}\n${b}\n${fate}`;
    let l = links.get(key);
    if (!l) links.set(key, (l = { key, from: a, to: b, bytes: 0, packets: 0, flows: 0, pairs: 0, fate }));
    l.bytes += pair.bytes;
    l.packets += pair.packets;
    l.flows += pair.flows;
    l.pairs++;
  }
  return [...links.values()].sort((a, b) => b.bytes - a.bytes || (a.key < b.key ? -1 : 1));
}
