// The WebSocket: frames and states in, "seen" out. It connects again by itself.

import { decodable } from "./video.js";

const FIRST_WAIT_MILLISECONDS = 500;
const LONGEST_WAIT_MILLISECONDS = 5000;
// The gateway tells its state every second: after so much silence the network is gone.
const SILENCE_MILLISECONDS = 15000;
const SIGN_IN_CODE = 4401;
const HEAD_LENGTH_BYTES = 4;

export class Connection {
  /**
   * @param {{token: () => string, onState: Function, onFrame: Function, onChange: Function,
   *   onSignIn: Function}} handlers
   *   `onFrame` gets what is known of a frame and its bytes (Uint8Array), and returns a promise of
   *   when it has been shown, with what else is to be told of it (`Told`); `onChange` gets true, or false with a reason.
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.decodes = decodable();
    this.wait = FIRST_WAIT_MILLISECONDS;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live/socket`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.greet(socket);
    socket.onmessage = ({ data }) => {
      this.expect(socket);
      if (socket !== this.socket) return;
      if (typeof data === "string") {
        this.wait = FIRST_WAIT_MILLISECONDS;
        this.handlers.onChange(true, "");
        this.handlers.onState(JSON.parse(data));
      } else {
        this.take(socket, data);
      }
    };
    socket.onclose = ({ code, reason }) => this.closed(socket, code, reason);
    this.socket = socket;
    this.expect(socket);
  }

  /** Give a socket up that nothing comes from: a browser that lost its network is not told. */
  expect(socket) {
    if (socket !== this.socket) return;
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      socket.close();
      this.closed(socket, 0, "");
    }, SILENCE_MILLISECONDS);
  }

  /** Connect with another token. */
  reopen() {
    const old = this.socket;
    this.socket = null;
    old?.close();
    this.open();
  }

  async greet(socket) {
    const decodes = await this.decodes;
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ token: this.handlers.token(), decodes }));
  }

  async take(socket, data) {
    const length = new DataView(data).getUint32(0);
    const end = HEAD_LENGTH_BYTES + length;
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, HEAD_LENGTH_BYTES, length)));
    let told = "";
    try {
      told = await this.handlers.onFrame(head, new Uint8Array(data, end));
    } finally {
      const seen = { seen: head.camera };
      if (told) seen[told] = true;
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(seen));
    }
  }

  closed(socket, code, reason) {
    if (socket !== this.socket) return;
    this.socket = null;
    clearTimeout(this.silence);
    if (code === SIGN_IN_CODE) {
      this.handlers.onChange(false, "signed out");
      this.handlers.onSignIn(reason);
      return;
    }
    this.handlers.onChange(false, "The connection to the gateway is lost; trying again");
    this.timer = setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MILLISECONDS);
  }
}
