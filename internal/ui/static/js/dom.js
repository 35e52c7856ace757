// Small helpers around the DOM. Text from records is only ever set as textContent or as the
// value of an attribute, so that no name can become markup.

export const $ = id => document.getElementById(id);

// Rows that are laid out as grids would not be rows to all screen readers without these.
const roles = { th: "columnheader", tr: "row", td: "cell" };

// el makes an element. Of props, "class", "text" and "data" are what they say, functions are
// listeners, and all else are attributes; undefined, null and false leave one out.
export function el(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  if (roles[tag]) e.setAttribute("role", roles[tag]);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") e.className = value;
    else if (name === "text") e.textContent = value;
    else if (name === "data") Object.assign(e.dataset, value);
    else if (typeof value === "function") e.addEventListener(name, value);
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children);
  return e;
}

// svg makes an element of SVG with attributes.
export function svg(tag, attributes = {}) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}

// setText changes text only if it differs, which keeps the selection and saves layout.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

const steps = new Map(); // of an element: the frame that goes on with it, and how

// inFrames calls f for each of a list, so many in a frame that none takes long, and then done.
// The first ones have to wait, too, since the caller has its own work in the frame that comes.
// A new call for the same element ends the one before.
export function inFrames(e, list, most, f, done = () => {}) {
  cancelAnimationFrame(steps.get(e)?.frame);
  e.setAttribute("aria-busy", "true");
  let i = 0;
  const end = () => {
    steps.delete(e);
    e.removeAttribute("aria-busy");
  };
  const work = { go: n => {
    try {
      for (const next = Math.min(i + n, list.length); i < next; i++) f(list[i], i);
    } catch (error) {
      end();
      throw error;
    }
    if (i < list.length) return later();
    end();
    done();
  } };
  const later = () => (work.frame = requestAnimationFrame(() => work.go(most)));
  work.frame = requestAnimationFrame(later);
  steps.set(e, work);
}

// finish does at once what inFrames has still to do.
export function finish(e) {
  const work = steps.get(e);
  cancelAnimationFrame(work?.frame);
  work?.go(Infinity);
}

const widths = new Map(); // of an element: its width, and what to call when it has changed
const late = new Set(); // elements that have another width, which is still to be told

// onWidth calls f when an element has got another width. Where several have, because the panel
// opens, each has a frame of its own.
export function onWidth(e, f) {
  widths.set(e, { width: 0, f });
  observer.observe(e);
}

const observer = new ResizeObserver(entries => {
  for (const { target, contentRect } of entries) {
    const known = widths.get(target);
    if (Math.abs(contentRect.width - known.width) >= 1) late.add(target);
    known.width = contentRect.width;
  }
  inFrames(document.querySelector("main"), [...late], 1, e => {
    late.delete(e);
    widths.get(e).f();
  });
});

// ownWidth makes a table as wide as its box, some rows a frame.
export const ownWidth = table => onWidth(table.parentElement, () => {
  const width = `${Math.max(table.parentElement.clientWidth, parseFloat(getComputedStyle(table).minWidth))}px`;
  inFrames(table.tBodies[0], [...table.rows], 10, tr => (tr.style.width = width), () => (table.style.width = width));
});

// nextFrame is kept when the browser has drawn what was changed before.
export const nextFrame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));

// debounce calls f once, when there was no call for some milliseconds.
export function debounce(f, milliseconds) {
  let timer = 0;
  const later = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), milliseconds);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}
