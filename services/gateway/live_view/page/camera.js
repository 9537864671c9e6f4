// One camera's tile: the frame and its boxes on a canvas, and what is known of the camera.

import { drawBoxes } from "./boxes.js";
import { Told, UnitDecoder } from "./video.js";
import { duration, element, framesPerSecond, rounded, size, tell } from "./words.js";

const MOST_CANVAS_PIXELS = 1920;
// A browser that shows so much less than what comes is told of.
const SLOW_SHARE = 0.8;
const WINDOW_MILLISECONDS = 3000;
const FORMS = { "video/h264": "H.264", "video/h265": "H.265", "image/jpeg": "JPEG", "image/png": "PNG" };

export class CameraTile {
  constructor(name) {
    this.name = name;
    this.shown = [];
    this.came = [];
    this.video = new UnitDecoder((head, frame) => this.present(head, frame, frame.visibleRect));
    this.element = element("figure", "camera");
    const stage = this.element.appendChild(element("div", "stage"));
    this.stage = stage;
    this.canvas = stage.appendChild(element("canvas"));
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `Picture of ${name}`);
    this.cover = stage.appendChild(element("div", "cover", "waiting for a frame"));
    const about = this.element.appendChild(element("figcaption", "about"));
    const title = about.appendChild(element("div", "title"));
    this.dot = title.appendChild(element("span", "dot"));
    title.appendChild(element("span", "name", name)).title = name;
    this.enlarge = title.appendChild(element("button", "", "Enlarge"));
    this.enlarge.type = "button";
    this.enlarge.setAttribute("aria-label", `Enlarge ${name}`);
    this.enlarge.setAttribute("aria-pressed", "false");
    this.enlarge.onclick = () => this.toggle();
    this.figures = about.appendChild(element("p", "figures"));
    this.seen = about.appendChild(element("p", "seen"));
  }

  /** The gateway has no such camera any more. */
  remove() {
    this.video.close();
    this.element.remove();
  }

  toggle() {
    const large = this.element.classList.toggle("large");
    this.enlarge.setAttribute("aria-pressed", String(large));
    tell(this.enlarge, large ? "Reduce" : "Enlarge");
  }

  /**
   * Draw a frame with its boxes.
   *
   * @param {object} head what the gateway tells of it
   * @param {Uint8Array} data a picture, or the access units up to the one that is to be shown
   * @returns {Promise<string>} what to tell the gateway, once both are on the screen
   */
  async show(head, data) {
    note(this.came, data.length);
    this.form = FORMS[head.type] ?? "";
    if (!head.units) return this.showPicture(head, data);
    if (head.units.length > 0) return this.video.show(head, data);
    // Damaged: there is nothing to be seen.
    await new Promise(requestAnimationFrame);
    this.cover.hidden = false;
    tell(this.cover, head.error);
    return Told.SHOWN;
  }

  async showPicture(head, data) {
    this.video.close();
    const bitmap = await createImageBitmap(new Blob([data], { type: head.type }));
    try {
      await this.present(head, bitmap, bitmap);
    } finally {
      bitmap.close();
    }
    return Told.SHOWN;
  }

  /** @param {{width: number, height: number}} pixels what the boxes are in */
  async present(head, image, pixels) {
    await new Promise(requestAnimationFrame);
    this.draw(head, image, pixels);
  }

  draw(head, image, pixels) {
    const ratio = pixels.width / pixels.height;
    if (Math.abs(ratio - (this.ratio ?? 0)) > 0.01) {
      this.ratio = ratio;
      this.stage.style.aspectRatio = String(ratio);
    }
    const density = window.devicePixelRatio || 1;
    const width = Math.min(MOST_CANVAS_PIXELS, Math.round((this.canvas.clientWidth || 320) * density));
    const height = Math.round(width / ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const context = this.canvas.getContext("2d");
    context.drawImage(image, 0, 0, width, height);
    drawBoxes(context, head.boxes, width / pixels.width, density);
    this.latest = head;
    this.cover.hidden = head.error === "" && !this.isStale;
    if (head.error) tell(this.cover, head.error);
    note(this.shown, 1);
    this.canvas.dataset.frame = String(head.number);
    this.canvas.dataset.form = this.form;
  }

  /** Nothing comes any more: what is shown is old. */
  lose(reason) {
    this.isStale = true;
    this.latest = null;
    this.dot.className = "dot bad";
    this.element.classList.add("is-lost");
    this.cover.hidden = false;
    tell(this.cover, reason);
    tell(this.figures, "not connected");
    tell(this.seen, "");
  }

  /** What the gateway tells of the camera. */
  update(camera) {
    if (this.isStale) tell(this.cover, "waiting for a frame");
    this.isStale = false;
    const runs = camera.condition === "running";
    this.dot.className = `dot ${{ running: "good", lost: "bad" }[camera.condition] ?? ""}`;
    this.element.classList.toggle("is-lost", camera.condition === "lost" || !this.latest);
    if (!runs) {
      this.cover.hidden = false;
      tell(this.cover, camera.reason || "connecting");
      tell(this.figures, camera.condition);
      tell(this.seen, "");
      return;
    }
    if (this.latest && !this.latest.error) this.cover.hidden = true;
    tell(this.figures, this.told(camera));
    tell(this.seen, this.objects());
  }

  told(camera) {
    const words = [framesPerSecond(camera.frames_per_second), duration(camera.latency_seconds)];
    words.push(`${camera.dropped} dropped`);
    if (camera.failed) words.push(`${camera.failed} failed`);
    if (this.form) words.push(`${this.form}, ${size(perSecond(this.came))}/s`);
    const rate = perSecond(this.shown);
    if (!document.hidden && camera.frames > 50 && rate < SLOW_SHARE * camera.frames_per_second) {
      words.push(`shown here ${rounded(rate)}/s`);
    }
    return words.join(" · ");
  }

  /** What is in the latest frame, in words. */
  objects() {
    const counts = new Map();
    for (const box of this.latest?.boxes ?? []) counts.set(box[4], (counts.get(box[4]) ?? 0) + 1);
    if (counts.size === 0) return "nothing found";
    return [...counts].map(([name, count]) => (count > 1 ? `${count} × ${name}` : name)).join(", ");
  }
}

/** Take note of something that happened now; what is older than the last seconds is forgotten. */
function note(events, amount) {
  events.push({ at: performance.now(), amount });
  forget(events);
}

function forget(events) {
  const oldest = performance.now() - WINDOW_MILLISECONDS;
  while (events.length > 0 && events[0].at < oldest) events.shift();
}

/** How much there was of it a second. */
function perSecond(events) {
  forget(events);
  return events.reduce((sum, each) => sum + each.amount, 0) / (WINDOW_MILLISECONDS / 1000);
}
