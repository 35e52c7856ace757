// Where the map's cards are. It is a function of the cards, their links and the width alone,
// so that the same traffic looks the same each time.

export const size = { card: 200, widest: 250, head: 32, row: 24, gap: 16, side: 10 };
const scrolls = 640; // a taller map is read from its top
const between = 70; // at least, from column to column, where there is room

// columnsOf says into how many columns of cards the width goes, and cardOf how wide these are.
const columnsOf = width => Math.max(2, Math.min(5, Math.floor((width - 2 * size.side + between) / (size.card + between))));
const cardOf = (width, columns) => Math.min(size.widest, Math.floor((width - 2 * size.side - (columns === 2 ? 44 : between) * (columns - 1)) / columns));

// depths walks the heaviest links first, from the outside inwards (Prim's spanning tree), so
// that most bytes run between neighbouring columns.
function depths(cards, weights) {
  const depth = new Map(), best = new Map();
  const left = new Set(cards.map(c => c.id));
  while (left.size > 0) {
    let next = null, weight = -1;
    for (const id of left) {
      const b = best.get(id);
      if (b && b.weight > weight) [next, weight] = [id, b.weight];
    }
    if (next === null) next = left.has("outside") ? "outside" : left.values().next().value; // a new root
    left.delete(next);
    depth.set(next, best.has(next) ? depth.get(best.get(next).from) + 1 : 0);
    for (const id of left) {
      const w = weights.get(pairKey(next, id)) || 0;
      if (w > 0 && w > (best.get(id)?.weight ?? 0)) best.set(id, { weight: w, from: next });
    }
  }
  return depth;
}

const pairKey = (a, b) => (a < b ? `${a}\n${b}` : `${b}\n${a}`);

const heightOf = card => size.head + (card.rows.length + (card.open && card.hidden ? 1 : 0)) * size.row + (card.rows.length ? 8 : 0);

// layout returns boxes by the id of a card, anchors by the id of what a link ends at, and the
// height of it all.
export function layout(view, width) {
  const owner = new Map();
  for (const c of view.cards) {
    owner.set(c.id, c.id).set(`more:${c.id}`, c.id);
    for (const r of c.rows) owner.set(r.id, c.id);
  }
  const weights = new Map();
  for (const l of view.links) {
    const a = owner.get(l.from), b = owner.get(l.to), key = pairKey(a, b);
    if (a !== b) weights.set(key, (weights.get(key) || 0) + l.bytes + 1);
  }
  const columns = columnsOf(width);
  const depth = depths(view.cards, weights);
  const stacks = Array.from({ length: columns }, () => []);
  const heights = new Array(columns).fill(0);
  for (const c of [...view.cards].sort((a, b) => depth.get(a.id) - depth.get(b.id))) {
    const at = columnFor(depth.get(c.id), heights);
    stacks[at].push(c);
    heights[at] += heightOf(c) + size.gap;
  }
  return place(stacks.filter(s => s.length > 0), weights, width, cardOf(width, columns));
}

// columnFor takes the column of the depth, or a later one that is much shorter: a star of fifty
// namespaces around one must not become one endless column.
function columnFor(depth, heights) {
  const wanted = Math.min(depth, heights.length - 1);
  if (depth === 0) return 0;
  let best = wanted;
  for (let i = 1; i < heights.length; i++) {
    if (heights[i] + 160 < heights[best]) best = i;
  }
  return best;
}

function place(stacks, weights, width, wide) {
  const boxes = new Map(), anchors = new Map();
  const step = stacks.length > 1 ? (width - 2 * size.side - wide) / (stacks.length - 1) : 0;
  const tall = Math.max(0, ...stacks.map(s => s.reduce((h, c) => h + heightOf(c) + size.gap, 0)));
  stacks.forEach((stack, column) => {
    if (column > 0) order(stack, stacks[column - 1], weights, boxes);
    const x = stacks.length > 1 ? Math.round(size.side + column * step) : Math.round((width - wide) / 2);
    const used = stack.reduce((h, c) => h + heightOf(c) + size.gap, 0);
    let y = size.side + (tall > scrolls ? 0 : Math.round((tall - used) / 2));
    for (const c of stack) {
      const h = heightOf(c);
      const anchor = y => ({ x, y, w: wide, column });
      boxes.set(c.id, { x, y, w: wide, h, column });
      anchors.set(c.id, anchor(y + size.head / 2));
      c.rows.forEach((r, i) => anchors.set(r.id, anchor(y + size.head + (i + 0.5) * size.row)));
      anchors.set(`more:${c.id}`, anchor(y + size.head + (c.rows.length + 0.5) * size.row));
      y += h + size.gap;
    }
  });
  return { boxes, anchors, height: tall + 2 * size.side, columns: stacks.length, narrow: wide < 180 };
}

// order puts cards next to those of the column before that they exchange most with.
function order(stack, before, weights, boxes) {
  const centre = new Map(stack.map(c => {
    let sum = 0, total = 0;
    for (const b of before) {
      const w = weights.get(pairKey(c.id, b.id)) || 0;
      sum += w * (boxes.get(b.id).y + boxes.get(b.id).h / 2);
      total += w;
    }
    return [c.id, total ? sum / total : Infinity];
  }));
  stack.sort((a, b) => centre.get(a.id) - centre.get(b.id) || b.bytes - a.bytes || (a.id < b.id ? -1 : 1));
}

// curve is the path of a link, offset upwards or downwards so that both directions show.
export function curve(from, to, offset, columns) {
  const y1 = from.y + offset, y2 = to.y + offset;
  if (from.column === to.column) {
    const last = from.column === columns - 1 && columns > 1;
    const x = last ? from.x : from.x + from.w;
    const bulge = Math.min(70, 26 + Math.abs(y2 - y1) * 0.18) * (last ? -1 : 1);
    if (from === to) return `M${x} ${y1 - 5}c${bulge} -8 ${bulge} 18 0 10`;
    return `M${x} ${y1}C${x + bulge} ${y1} ${x + bulge} ${y2} ${x} ${y2}`;
  }
  const right = from.column < to.column;
  const x1 = right ? from.x + from.w : from.x, x2 = right ? to.x : to.x + to.w;
  const bend = (x2 - x1) * 0.45;
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}
