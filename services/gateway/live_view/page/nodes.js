// A picture of the nodes: what runs where, and what crosses each link now.

import { duration, element, framesPerSecond, size, tell, tellList } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const ORCHESTRATOR = "orchestrator";
const ARROW_PIXELS = 7;
// Room for one label and a piece of its line.
const LEVEL_PIXELS = 40;

export class NodeMap {
  /** @param {HTMLElement} map @param {HTMLElement} list the same in words, for who cannot see it */
  constructor(map, list) {
    this.map = map;
    this.list = list;
    this.chips = new Map();
    this.pills = new Map();
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("aria-hidden", "true");
    this.svg.append(arrowHead());
    this.lines = this.svg.appendChild(document.createElementNS(SVG, "g"));
    new ResizeObserver(() => this.connect()).observe(map);
  }

  update(system, traffic, cameras) {
    const places = [...new Set(system.stages.map((stage) => stage.node))];
    if (places.join("\n") !== this.places?.join("\n")) this.build(places);
    tell(this.cameras, cameras === 1 ? "1 camera" : `${cameras} cameras`);
    const used = new Set();
    for (const link of traffic) {
      used.add(link.content === "frames" ? `${link.destination} backbone` : `${link.destination} transformer`);
    }
    for (const [key, chip] of this.chips) this.fill(chip, key, system.stages, used.has(key));
    this.traffic = traffic;
    this.links = system.links;
    tellList(this.list, traffic.map((link) => [this.sentence(link)]));
    this.connect();
  }

  build(places) {
    this.places = places;
    this.chips.clear();
    this.pills.clear();
    const orchestrator = element("div", "place orchestrator");
    orchestrator.append(element("div", "title", ORCHESTRATOR));
    this.cameras = orchestrator.appendChild(element("div", "figures"));
    this.orchestrator = orchestrator;
    const nodes = element("div", "nodes");
    nodes.append(...places.map((place) => this.node(place)));
    this.map.replaceChildren(orchestrator, nodes, this.svg);
  }

  node(place) {
    const card = element("div", "place");
    card.append(element("div", "title", place));
    const stages = card.appendChild(element("div", "stages"));
    for (const stage of ["backbone", "transformer"]) {
      const chip = stages.appendChild(element("div", "chip"));
      const title = chip.appendChild(element("div", "title"));
      chip.dot = title.appendChild(element("span", "dot"));
      title.append(element("span", "", stage));
      chip.figures = chip.appendChild(element("div", "figures"));
      this.chips.set(`${place} ${stage}`, chip);
    }
    return card;
  }

  fill(chip, key, stages, used) {
    const servers = stages.filter((stage) => `${stage.node} ${stage.stage}` === key);
    const healthy = servers.filter((server) => server.healthy);
    chip.classList.toggle("used", used);
    chip.dot.className = `dot ${healthy.length ? "good" : servers.length ? "bad" : ""}`;
    const estimate = servers.find((server) => server.compute_seconds !== null);
    let told = servers.length ? "not measured" : "none";
    if (servers.length && !healthy.length) told = "unavailable";
    else if (estimate) told = `${duration(estimate.compute_seconds)} a frame`;
    if (servers.length > 1) told += `, ${healthy.length} of ${servers.length}`;
    tell(chip.figures, told);
    chip.title = servers.map((server) => server.reason).filter(Boolean).join("; ");
  }

  sentence(link) {
    const stage = link.content === "frames" ? "backbone" : "transformer";
    const from = link.content === "frames" ? link.source : `${link.source} backbone`;
    const known = this.links.find(
      (each) => each.source === link.source && each.destination === link.destination,
    );
    const carries = known ? `; the link carries ${size(known.bytes_per_second)} a second` : "";
    return `${from} to ${link.destination} ${stage}: ${framesPerSecond(link.frames_per_second)}, ` +
      `${size(link.bytes_per_second)} a second of ${link.content}${carries}`;
  }

  /** Draw a line for each link in use, between where things stand now. */
  connect() {
    const frame = this.map.getBoundingClientRect();
    const seen = new Set();
    this.lines.replaceChildren();
    for (const link of this.traffic ?? []) {
      const isFrames = link.content === "frames";
      const from = isFrames ? this.orchestrator : this.chips.get(`${link.source} backbone`);
      const to = this.chips.get(`${link.destination} ${isFrames ? "backbone" : "transformer"}`);
      if (!from || !to) continue;
      const key = `${link.content} ${link.source} ${link.destination}`;
      seen.add(key);
      const boxes = [from.getBoundingClientRect(), to.getBoundingClientRect()];
      const place = this.line(...boxes, frame, isFrames);
      this.label(key, link, place);
    }
    for (const [key, pill] of this.pills) {
      if (seen.has(key)) continue;
      pill.remove();
      this.pills.delete(key);
    }
  }

  /** Draw one line from above down; returns where its label stands: apart from all others. */
  line(from, to, frame, isFrames) {
    // A node's name stands on the left, where no line is to cross it.
    const x1 = from.left + from.width / 2 - frame.left;
    const x2 = to.left + (isFrames ? 0.75 : 0.5) * to.width - frame.left;
    const [y1, y2] = [from.bottom - frame.top, to.top - frame.top - ARROW_PIXELS];
    const isStraight = Math.abs(x1 - x2) < 1;
    // Frames turn above the nodes, features between the stages, and end in a straight piece.
    const turned = isFrames ? y1 + LEVEL_PIXELS : y2 - LEVEL_PIXELS / 2;
    const middle = (y1 + turned) / 2;
    const path = this.lines.appendChild(document.createElementNS(SVG, "path"));
    path.setAttribute("marker-end", "url(#arrow)");
    path.setAttribute("d", `M ${x1} ${y1} C ${x1} ${middle} ${x2} ${middle} ${x2} ${turned} V ${y2}`);
    if (isFrames) return [x2, turned - LEVEL_PIXELS / 6];
    return isStraight ? [x2, y1 + LEVEL_PIXELS / 2 + 4] : [x2, y2 - LEVEL_PIXELS / 2];
  }

  label(key, link, [x, y]) {
    let pill = this.pills.get(key);
    if (!pill) {
      pill = this.map.appendChild(element("div", "pill"));
      pill.setAttribute("aria-hidden", "true");
      pill.rate = pill.appendChild(document.createTextNode(""));
      pill.size = pill.appendChild(element("span"));
      this.pills.set(key, pill);
    }
    pill.rate.data = framesPerSecond(link.frames_per_second);
    tell(pill.size, `${size(link.bytes_per_second)}/s`);
    pill.style.left = `${x}px`;
    pill.style.top = `${y}px`;
  }
}

function arrowHead() {
  const marker = document.createElementNS(SVG, "marker");
  for (const [name, value] of Object.entries({
    id: "arrow", viewBox: "0 0 8 8", refX: 2, refY: 4, markerWidth: 5, markerHeight: 5,
    orient: "auto-start-reverse",
  })) marker.setAttribute(name, String(value));
  const path = marker.appendChild(document.createElementNS(SVG, "path"));
  path.setAttribute("d", "M0 0 8 4 0 8z");
  return marker;
}
