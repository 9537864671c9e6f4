// A picture of the nodes: what runs where, and what crosses each link now.

import { duration, element, framesPerSecond, size, tell, tellList } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const ORCHESTRATOR = "orchestrator";

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
    this.chips.clear();
    this.orchestrator = orchestrator;
    const nodes = places.map((place) => this.node(place));
    this.map.replaceChildren(orchestrator, ...nodes, this.svg);
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
      const middle = this.line(from.getBoundingClientRect(), to.getBoundingClientRect(), frame);
      this.label(key, link, middle);
    }
    for (const [key, pill] of this.pills) {
      if (seen.has(key)) continue;
      pill.remove();
      this.pills.delete(key);
    }
  }

  /** Draw one line; returns its middle. */
  line(from, to, frame) {
    const path = this.lines.appendChild(document.createElementNS(SVG, "path"));
    path.setAttribute("marker-end", "url(#arrow)");
    const sideways = Math.abs(from.top - to.top) < from.height / 2;
    const goesDown = to.top > from.top;
    const start = sideways
      ? [from.right, from.top + from.height / 2]
      : [from.left + from.width / 2, goesDown ? from.bottom : from.top];
    const end = sideways
      ? [to.left - 7, to.top + to.height / 2]
      : [to.left + to.width / 2, goesDown ? to.top - 7 : to.bottom + 7];
    const [x1, y1, x2, y2] = [...start, ...end].map(
      (value, index) => value - (index % 2 ? frame.top : frame.left),
    );
    const middle = (y1 + y2) / 2;
    const bend = sideways ? `L ${x2} ${y2}` : `C ${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`;
    path.setAttribute("d", `M ${x1} ${y1} ${bend}`);
    return [(x1 + x2) / 2, middle];
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
