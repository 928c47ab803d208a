// Helpers that change the document. They insert text as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children (nodes or strings). */
export function el(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** An SVG element, likewise. */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Sets text only if it differs, so that selections survive and screen readers stay quiet. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** Sets an attribute only if it differs; undefined removes it. */
export function attribute(node, name, value) {
  if (value === undefined || value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/**
 * Shows `items` as the children of `parent`, in order. Nodes with known keys are updated in place, so that focus and
 * scroll position survive.
 */
export function keyed(parent, items, keyOf, create, update) {
  const nodes = (parent.nodesByKey ??= new Map());
  const seen = new Set();
  items.forEach((item, index) => {
    const key = keyOf(item);
    seen.add(key);
    if (!nodes.has(key)) nodes.set(key, create(item));
    const node = nodes.get(key);
    update(node, item);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  for (const [key, node] of nodes) {
    if (!seen.has(key)) {
      node.remove();
      nodes.delete(key);
    }
  }
}

/** Fills a `<dl>` with `[term, description]` pairs. */
export function facts(list, pairs) {
  keyed(
    list,
    pairs.filter(([, value]) => value),
    ([term]) => term,
    ([term]) => el("div", {}, el("dt", {}, term), el("dd")),
    (row, [, value]) => text(row.lastChild, value),
  );
}
