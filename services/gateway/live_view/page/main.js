// The live view: puts the parts together.

import { CameraTile } from "./camera.js";
import { Connection } from "./connection.js";
import { NodeMap } from "./nodes.js";
import { PlacementChoice, sentenceOf } from "./placement.js";
import { tell, tellList } from "./words.js";

const TOKEN = "tandem-token";
const byId = (id) => document.getElementById(id);
const tiles = new Map();
const token = () => sessionStorage.getItem(TOKEN) ?? "";

const map = new NodeMap(byId("map"), byId("links"));
const placement = new PlacementChoice({
  group: byId("placements"),
  told: byId("placement-told"),
  explanation: byId("explanation"),
  measured: byId("measured"),
  token,
  onSignIn: askForToken,
});
const connection = new Connection({
  token,
  onState: show,
  onFrame: (head, data) => tiles.get(head.camera)?.show(head, data),
  onChange: (isOpen, reason) => {
    byId("connection").classList.toggle("lost", !isOpen);
    document.querySelector("main").classList.toggle("stale", !isOpen);
    if (isOpen) return;
    tell(byId("connection"), reason);
    for (const tile of tiles.values()) tile.lose(reason);
  },
  onSignIn: askForToken,
});

/** A tile for each camera, in their order; a gateway that was started anew may have others. */
function showCameras(cameras) {
  const names = new Set(cameras.map((camera) => camera.name));
  for (const [name, tile] of tiles) {
    if (names.has(name)) continue;
    tile.remove();
    tiles.delete(name);
  }
  cameras.forEach((camera, index) => {
    const tile = tiles.get(camera.name) ?? new CameraTile(camera.name);
    tiles.set(camera.name, tile);
    const there = byId("cameras").children[index];
    if (there !== tile.element) byId("cameras").insertBefore(tile.element, there ?? null);
    tile.update(camera);
  });
}

function show(state) {
  showCameras(state.cameras);
  byId("sign-in").hidden = !(state.signs_in || token());
  const system = state.system;
  byId("system").hidden = system === null;
  document.querySelector("main").classList.toggle("with-system", system !== null);
  if (system !== null) {
    map.update(system, state.traffic, state.cameras.length);
    placement.update(system);
  }
  const rate = state.cameras.reduce((sum, camera) => sum + camera.frames_per_second, 0);
  tell(byId("connection"), `${state.cameras.length} camera${state.cameras.length === 1 ? "" : "s"}, ` +
    `${rate.toFixed(0)} frames/s`);
  tellList(byId("alerts"), alertsOf(state));
}

/** What somebody should look at; each with the class of its colour. */
function alertsOf(state) {
  const alerts = [];
  if (state.problem) alerts.push([sentenceOf(state.problem), "bad"]);
  for (const camera of state.cameras) {
    if (camera.condition === "lost") {
      alerts.push([sentenceOf(`Camera ${camera.name} shows nothing: ${camera.reason}`), "bad"]);
    }
  }
  if (state.cameras.length === 0) {
    alerts.push(["The gateway has no cameras: give it a file of them (cameras).", ""]);
  }
  const system = state.system;
  if (system?.draining) alerts.push(["The orchestrator is about to end.", "bad"]);
  for (const stage of system?.stages ?? []) {
    if (stage.reason) {
      alerts.push([sentenceOf(`${stage.stage} on ${stage.node}: ${stage.reason}`), stage.healthy ? "" : "bad"]);
    }
  }
  for (const warning of system?.warnings ?? []) alerts.push([sentenceOf(warning), ""]);
  return alerts;
}

function askForToken(why = "") {
  const dialog = byId("sign-in-dialog");
  tell(byId("sign-in-why"), why ? sentenceOf(why) : "With the token of an operator you may set the placement.");
  if (!dialog.open) dialog.showModal();
}

byId("sign-in").onclick = () => {
  if (!token()) {
    askForToken();
    return;
  }
  sessionStorage.removeItem(TOKEN);
  showSignedIn();
  connection.reopen();
};

byId("sign-in-dialog").onclose = ({ target }) => {
  const given = byId("token").value.trim();
  byId("token").value = "";
  if (target.returnValue !== "sign-in" || !given) return;
  sessionStorage.setItem(TOKEN, given);
  showSignedIn();
  connection.reopen();
};

function showSignedIn() {
  tell(byId("sign-in"), token() ? "Sign out" : "Sign in");
}

showSignedIn();
