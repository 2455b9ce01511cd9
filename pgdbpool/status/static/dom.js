// Making and renewing elements; what is shown is always text, never markup.

export function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Change only what differs, so that selections and readers are not disturbed.
export function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function mark(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// Make the children of an element one for each item, and keep those that stay: what
// has the focus keeps it.
export function keep(parent, items, keyOf, create, renew) {
  parent.kept ??= new Map();
  const seen = new Set();
  let place = parent.firstElementChild;
  items.forEach((item, index) => {
    let key = String(keyOf(item, index));
    while (seen.has(key)) key += "+";
    seen.add(key);
    let child = parent.kept.get(key);
    if (child === undefined) {
      child = create(item);
      parent.kept.set(key, child);
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    renew?.(child, item, index);
  });
  for (const [key, child] of parent.kept) {
    if (!seen.has(key)) {
      child.remove();
      parent.kept.delete(key);
    }
  }
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.0995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 119.5) return `${Math.round(seconds)} s`;
  if (seconds < 7170) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (Math.abs(value) < 9.95) return value.toFixed(1);
  return Math.round(value).toLocaleString("en");
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}
