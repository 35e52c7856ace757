// Small helpers around the DOM. Text from records is only ever set as textContent or as the
// value of an attribute, so that no name can become markup.

export const $ = id => document.getElementById(id);

// el makes an element. Of props, "class", "text" and "data" are what they say, functions are
// listeners, and all else are attributes; undefined, null and false leave one out.
export function el(tag, props = {}, ...children) {
  const e = document.createElement(tag);
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

const steps = new Map(); // of an element: the frame that goes on with it

// inFrames calls f for each of a list, so many in a frame that none takes long, and then done.
// The first ones are called at once. A new call for the same element ends the one before.
export function inFrames(e, list, most, f, done = () => {}) {
  cancelAnimationFrame(steps.get(e));
  e.setAttribute("aria-busy", "true");
  let i = 0;
  const step = () => {
    for (const end = Math.min(i + most, list.length); i < end; i++) f(list[i], i);
    if (i < list.length) return steps.set(e, requestAnimationFrame(step));
    e.removeAttribute("aria-busy");
    done();
  };
  step();
}

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
