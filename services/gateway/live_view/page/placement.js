// Which placement is set, what each would reach, and the button that sets it.

import { duration, element, framesPerSecond, size, tell, tellList } from "./words.js";

const AUTOMATIC = "auto";
// The orchestrator's first sentences tell its choice, and when it will choose anew.
const REASONS = 2;

export class PlacementChoice {
  /**
   * @param {{group: HTMLElement, told: HTMLElement, explanation: HTMLElement,
   *   measured: HTMLElement, token: () => string, onSignIn: Function}} parts
   */
  constructor(parts) {
    this.parts = parts;
    this.buttons = new Map();
  }

  update(system) {
    const automatic = { name: AUTOMATIC, available: true, reason: "", prediction: null };
    const active = system.setting === AUTOMATIC && system.active ? `now ${system.active}` : "";
    const placements = [automatic, ...system.placements];
    const names = new Set(placements.map((placement) => placement.name));
    for (const [name, button] of this.buttons) {
      if (names.has(name)) continue;
      button.remove();
      this.buttons.delete(name);
    }
    for (const placement of placements) {
      const button = this.buttons.get(placement.name) ?? this.add(placement.name);
      const isSet = placement.name === system.setting;
      button.setAttribute("aria-pressed", String(isSet));
      button.disabled = !placement.available;
      tell(button.told, told(placement, system.objective));
      const isActive = placement.name === system.active;
      tell(button.badge, placement.name === AUTOMATIC ? active : isActive ? "in use" : "");
    }
    const sentences = system.explanation.map((sentence) => [sentence]);
    const reasons = sentences.slice(0, REASONS);
    tellList(this.parts.explanation, reasons.length ? reasons : [["Nothing has been measured yet."]]);
    tellList(this.parts.measured, sentences.slice(REASONS));
  }

  add(name) {
    const button = element("button");
    button.type = "button";
    button.append(element("span", "name", name));
    button.badge = button.appendChild(element("span", "badge"));
    button.told = button.appendChild(element("span", "told"));
    button.onclick = () => this.set(name);
    this.buttons.set(name, button);
    this.parts.group.append(button);
    return button;
  }

  /** Ask the gateway, which asks the orchestrator with the user's own rights. */
  async set(name) {
    this.say(`setting ${name}`);
    const token = this.parts.token();
    let answer;
    try {
      answer = await fetch("/live/placement", {
        method: "POST",
        headers: token ? { authorization: `Bearer ${token}` } : {},
        body: JSON.stringify({ placement: name }),
      });
    } catch {
      this.say("The gateway does not answer.", true);
      return;
    }
    if (answer.ok) {
      this.say(`The placement is ${name}.`);
      return;
    }
    const { error } = await answer.json().catch(() => ({ error: "The gateway did not do it." }));
    this.say(sentenceOf(error), true);
    if (answer.status === 401) this.parts.onSignIn(sentenceOf(error));
  }

  say(text, isBad = false) {
    tell(this.parts.told, text);
    this.parts.told.classList.toggle("bad", isBad);
  }
}

function told(placement, objective) {
  if (placement.name === AUTOMATIC) return `the orchestrator chooses, for ${objective}`;
  const where = placement.backbone === placement.transformer
    ? `both halves on ${placement.backbone}`
    : `backbone on ${placement.backbone}, transformer on ${placement.transformer}`;
  if (placement.reason) return `${where} · ${placement.reason}`;
  const expected = placement.prediction;
  if (!expected) return `${where} · not measured yet`;
  return `${where} · would reach ${framesPerSecond(expected.frames_per_second)}, ` +
    `${duration(expected.latency_seconds)}, ${size(expected.bytes_per_frame)} a frame`;
}

/** With a capital and a full stop. */
export function sentenceOf(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}
