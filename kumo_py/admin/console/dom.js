// Elements are made here and nowhere else. Text is set as text: nothing that came from others is ever parsed as HTML.

export const find = (selector, within = document) => within.querySelector(selector);

// element("td", { class: "number", data: { key: "x" }, on: { click } }, "text or element", …)
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    } else if (name === "data") {
      Object.assign(made.dataset, value);
    } else if (value === true) {
      made.setAttribute(name, "");
    } else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function button(text, click, attributes = {}) {
  return element("button", { type: "button", ...attributes, on: { click } }, text);
}

// Touches the document only where something has changed, so that a selection or the focus stays.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Make the children of `parent` show `items`, in their order. What is there already is updated and moved, not made
// anew: `make(item)` returns an element whose `show(seen(item))` brings it up to date.
export function reconcile(parent, items, keyOf, make, seen = (item) => item) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = known.get(key);
    if (child === undefined) {
      child = make(item);
      child.dataset.key = key;
    } else {
      known.delete(key);
    }
    child.show(seen(item));
    if (child === before) {
      before = before.nextElementSibling;
    } else {
      parent.insertBefore(child, before);
    }
  }
  for (const child of known.values()) child.remove();
}

// <dt> and <dd> for each pair of `entries`.
export function describe(list, entries) {
  list.replaceChildren(
    ...entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
  );
}
