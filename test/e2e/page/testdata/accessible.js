(() => {
  const bad = [];
  const parse = text => {
    const n = (text.match(/[\d.]+/g) || []).map(Number);
    return text.startsWith("color(") ? [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = c => {
    const [r, g, b] = c.map(x => ((x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  // The colours that may be behind an element: its background's, and a gradient's on top.
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      const gradient = style.backgroundImage.match(/rgba?\([^)]*\)|color\([^)]*\)/g) || [];
      layers.push([parse(style.backgroundColor), ...gradient.map(parse)]);
    }
    let below = [[255, 255, 255, 1]];
    for (const layer of layers.reverse()) {
      const base = below.map(b => over(layer[0], b));
      below = base.concat(...layer.slice(1).map(g => base.map(b => over(g, b))));
      below = [...new Map(below.map(b => [b.map(Math.round).join(), b])).values()];
    }
    return below;
  };
  const visible = e => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !e.closest(".unseen, svg");
  const seen = new Set();
  const check = (e, color, what) => {
    const style = getComputedStyle(e);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    const least = size >= 24 || (size >= 18.66 && bold) ? 3 : 4.5;
    const worst = Math.min(...behind(e).map(b => contrast(over(parse(color), b), b)));
    const line = `contrast ${worst.toFixed(2)} of ${what} (${e.tagName.toLowerCase()}.${e.className}), ${least} is the least`;
    if (worst < least && !seen.has(e.tagName + e.className)) bad.push(line);
    if (worst < least) seen.add(e.tagName + e.className);
  };
  let texts = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.data.trim() || e.tagName === "OPTION" || e.closest("noscript, option") || !visible(e)) continue;
    texts++;
    check(e, getComputedStyle(e).color, JSON.stringify(n.data.trim().slice(0, 30)));
  }
  if (texts < 10) bad.push(`only ${texts} texts are visible`);
  for (const e of document.querySelectorAll("input")) check(e, getComputedStyle(e, "::placeholder").color, "a placeholder");
  const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) bad.push(`the id ${id} is there twice`);
  for (const name of ["aria-labelledby", "aria-describedby", "aria-controls", "aria-activedescendant", "for"]) {
    for (const e of document.querySelectorAll(`[${name}]`)) {
      for (const id of e.getAttribute(name).split(" ")) if (!document.getElementById(id)) bad.push(`${name} names ${id}, which is not there`);
    }
  }
  for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) bad.push(`tabindex ${e.tabIndex}`);
  for (const e of document.querySelectorAll("th")) if (!e.scope) bad.push("a heading of a table has no scope");
  // Not all browsers take what is laid out otherwise for a part of a table without being told.
  for (const e of document.querySelectorAll("table, thead, tbody, tr, th, td")) {
    if (!e.role && !getComputedStyle(e).display.startsWith("table")) bad.push(`a ${e.tagName} has neither a role nor the layout of one`);
  }
  for (const e of document.querySelectorAll("img")) if (e.getAttribute("alt") === null) bad.push("an image has no alt");
  for (const e of document.querySelectorAll("[onclick], div[tabindex]:not([role]), span[tabindex]")) bad.push(`${e.tagName} acts like a button`);
  if (!document.documentElement.lang) bad.push("the page has no language");
  if (document.querySelectorAll("h1").length !== 1) bad.push("the page has not one h1");
  if (!document.querySelector("main")) bad.push("the page has no main part");
  return bad;
})()
