// Figures as people read them.

/** A number with two digits or more. */
export function rounded(value) {
  return value >= 10 ? value.toFixed(0) : value.toFixed(1);
}

/** @param {number} seconds */
export function duration(seconds) {
  return seconds >= 1 ? `${seconds.toFixed(1)}\u00a0s` : `${rounded(seconds * 1000)}\u00a0ms`;
}

/** @param {number} bytes */
export function size(bytes) {
  for (const [unit, factor] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes >= factor) return `${rounded(bytes / factor)}\u00a0${unit}`;
  }
  return `${bytes.toFixed(0)}\u00a0B`;
}

/** @param {number} rate */
export function framesPerSecond(rate) {
  return `${rounded(rate)}\u00a0frames/s`;
}

/** An element with a class and a text, which is never read as HTML. */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** Set a text only where it differs, so that nothing is drawn, or read aloud, without need. */
export function tell(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Make a list's items tell these texts; each is `[text, className]`. */
export function tellList(list, items) {
  while (list.children.length > items.length) list.lastElementChild.remove();
  items.forEach(([text, className = ""], index) => {
    const item = list.children[index] ?? list.appendChild(element("li"));
    tell(item, text);
    if (item.className !== className) item.className = className;
  });
}
