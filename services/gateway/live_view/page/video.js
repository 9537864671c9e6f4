// A camera's access units to frames, by WebCodecs.

// By what names browsers know the kinds that the gateway may send.
const KINDS = { h264: "avc1.42E01E", h265: "hev1.1.6.L93.B0" };
// A decoder that holds a frame back longer than this gets the next ones meanwhile.
const PATIENCE_MILLISECONDS = 250;
// Without a frame in between: then the browser does not decode this video.
const MOST_FAILURES = 3;

/** Which kinds of video this browser decodes, by the gateway's names. */
export async function decodable() {
  if (!("VideoDecoder" in globalThis)) return [];
  const found = await Promise.all(Object.entries(KINDS).map(async ([kind, codec]) => {
    const { supported } = await VideoDecoder.isConfigSupported({ codec }).catch(() => ({}));
    return supported ? kind : "";
  }));
  return found.filter(Boolean);
}

/** What to say of a message: nothing, that a key frame is needed, or that there is no use in more. */
export const Told = Object.freeze({ SHOWN: "", LOST: "lost", CANNOT: "cannot" });

export class UnitDecoder {
  /**
   * @param {(head: object, frame: VideoFrame) => Promise<void>} draw
   *   gets each frame that is to be shown with what came along with it; the frame is closed after.
   */
  constructor(draw) {
    this.draw = draw;
    this.waiting = new Map();
    this.number = 0;
    this.failures = 0;
  }

  /**
   * Decode all units of a message, and show the last one.
   *
   * @param {object} head
   * @param {Uint8Array} data the units, one after another
   * @returns {Promise<string>} once it is shown, or will not be
   */
  show(head, data) {
    const [, startsAnew] = head.units[0];
    if (startsAnew) this.configure(head.codec);
    if (!this.decoder) return Promise.resolve(Told.LOST);
    let begin = 0;
    try {
      for (const [size, isKey] of head.units) {
        this.number += 1;
        this.decoder.decode(new EncodedVideoChunk({
          type: isKey ? "key" : "delta",
          timestamp: this.number,
          data: data.subarray(begin, begin + size),
        }));
        begin += size;
      }
    } catch (error) {
      return Promise.resolve(this.fail(error));
    }
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, PATIENCE_MILLISECONDS, Told.SHOWN);
      this.waiting.set(this.number, { head, resolve, timer });
    });
  }

  close() {
    if (this.decoder && this.decoder.state !== "closed") this.decoder.close();
    this.decoder = null;
    this.codec = "";
    for (const { resolve, timer } of this.waiting.values()) {
      clearTimeout(timer);
      resolve(Told.SHOWN);
    }
    this.waiting.clear();
  }

  /** Have a decoder for this kind of video, which a key frame is about to begin. */
  configure(codec) {
    if (this.decoder && this.codec === codec) return;
    this.close();
    this.codec = codec;
    const decoder = new VideoDecoder({
      output: (frame) => this.take(frame),
      error: (error) => decoder === this.decoder && this.fail(error),
    });
    this.decoder = decoder;
    try {
      decoder.configure({ codec, optimizeForLatency: true });
    } catch (error) {
      this.fail(error);
    }
  }

  async take(frame) {
    this.failures = 0;
    const shown = this.waiting.get(frame.timestamp);
    this.waiting.delete(frame.timestamp);
    try {
      if (!shown) return;
      clearTimeout(shown.timer);
      await this.draw(shown.head, frame);
    } finally {
      frame.close();
      shown?.resolve(Told.SHOWN);
    }
  }

  /** A damaged unit, or a kind of video that is not decoded here: begin anew with a key frame. */
  fail(error) {
    this.failures += 1;
    const told = error.name === "NotSupportedError" || error.name === "TypeError" || this.failures >= MOST_FAILURES
      ? Told.CANNOT
      : Told.LOST;
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    this.close();
    for (const { resolve, timer } of waiting) {
      clearTimeout(timer);
      resolve(told);
    }
    return told;
  }
}
