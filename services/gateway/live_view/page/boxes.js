// Boxes with names and scores, over a frame.

// Light enough for dark letters, and apart from each other for most who see colours differently.
const COLOURS = [
  "#ffd166", "#8ecbff", "#7ee2b8", "#ff9f80", "#d3b3ff",
  "#f2f27a", "#ff9ecb", "#7fe0e6", "#c6e377", "#e6e8ee",
];
const INK = "#14161c";

const taken = new Map();

/** The colour of a category: mostly the same everywhere, and on one page its own while there are any. */
export function colourOf(name) {
  const known = taken.get(name);
  if (known !== undefined) return known;
  let hash = 7;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  const used = new Set(taken.values());
  const wanted = COLOURS.map((_, index) => COLOURS[(hash + index) % COLOURS.length]);
  const colour = wanted.find((each) => !used.has(each)) ?? wanted[0];
  taken.set(name, colour);
  return colour;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Array} boxes each: x_min, y_min, x_max, y_max in pixels of the frame, name, score
 * @param {number} scale pixels of the canvas for one of the frame
 * @param {number} density pixels of the canvas for one of CSS
 */
export function drawBoxes(context, boxes, scale, density) {
  const line = 2 * density;
  context.font = `600 ${12.5 * density}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  // The surest ones come first, and are drawn last.
  const reversed = [...boxes].reverse();
  for (const [left, top, right, bottom, name] of reversed) {
    const sides = [left * scale, top * scale, (right - left) * scale, (bottom - top) * scale];
    context.lineWidth = 2 * line;
    context.strokeStyle = "rgb(20 22 28 / .55)";
    context.strokeRect(...sides);
    context.lineWidth = line;
    context.strokeStyle = colourOf(name);
    context.strokeRect(...sides);
  }
  for (const box of reversed) drawLabel(context, box, scale, density);
}

function drawLabel(context, [left, top, , , name, score], scale, density) {
  const text = `${name} ${Math.round(score * 100)} %`;
  const padding = 5 * density;
  const height = 19 * density;
  const width = Math.min(context.measureText(text).width + 2 * padding, context.canvas.width);
  const x = Math.max(0, Math.min(left * scale - density, context.canvas.width - width));
  const above = top * scale - height;
  // Over the box, or in it where there is no room above.
  const y = above >= 0 ? above : Math.max(0, top * scale);
  context.fillStyle = colourOf(name);
  context.fillRect(x, y, width, height);
  context.fillStyle = INK;
  context.fillText(text, x + padding, y + height / 2, width - 2 * padding);
}
