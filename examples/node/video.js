// A client in another language that sends video as it is: one access unit a frame.
// node video.js ADDRESS PROTOS_FOLDER FILE: one JSON line a response. The file is an Annex B byte
// stream, .h264 or .h265, as `ffmpeg -i clip.mp4 -c copy clip.h264` makes it of a video without B
// frames.
import { readFileSync } from "node:fs";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [address, protos, file] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node video.js ADDRESS PROTOS_FOLDER FILE");
  process.exit(2);
}
const isH264 = file.endsWith(".h264");

// By nal_unit_type: parameter sets and the delimiter, key frames, and all pictures.
const kinds = isH264
  ? { heads: [6, 7, 8, 9], isKey: (kind) => kind === 5, isPicture: (kind) => kind >= 1 && kind <= 5 }
  : {
      heads: [32, 33, 34, 35, 39],
      isKey: (kind) => kind >= 16 && kind <= 23,
      isPicture: (kind) => kind < 32,
    };

// A NAL unit begins behind 00 00 01; a picture begins where the first bit of a slice's header is set.
function* accessUnits(bytes) {
  let start = 0;
  let hasPicture = false;
  let keyFrame = false;
  for (let at = bytes.indexOf("000001", 0, "hex"); at >= 0; ) {
    const head = at + 3;
    const kind = isH264 ? bytes[head] & 31 : (bytes[head] >> 1) & 63;
    const isFirst = kinds.isPicture(kind) && (bytes[head + (isH264 ? 1 : 2)] & 128) !== 0;
    if (hasPicture && (isFirst || kinds.heads.includes(kind))) {
      const end = bytes[at - 1] === 0 ? at - 1 : at;
      yield { data: bytes.subarray(start, end), keyFrame };
      [start, hasPicture, keyFrame] = [end, false, false];
    }
    hasPicture ||= kinds.isPicture(kind);
    keyFrame ||= kinds.isKey(kind);
    at = bytes.indexOf("000001", head, "hex");
  }
  if (hasPicture) yield { data: bytes.subarray(start), keyFrame };
}

const options = { includeDirs: [protos], enums: String, longs: Number, oneofs: true, defaults: true };
const definition = protoLoader.loadSync("tandem/v1/detector.proto", options);
const { tandem } = grpc.loadPackageDefinition(definition);
const client = new tandem.v1.Detector(address, grpc.credentials.createInsecure());

const call = client.Detect();
call.on("data", (response) => console.log(JSON.stringify(response)));
call.on("error", (error) => {
  console.error(error.message);
  process.exitCode = 1;
});
call.on("end", () => client.close());

const codec = isH264 ? "VIDEO_CODEC_H264" : "VIDEO_CODEC_H265";
call.write({ options: { placement: "PLACEMENT_WORKSTATION", scoreThreshold: 0, video: { codec } } });
let frameId = 0;
for (const unit of accessUnits(readFileSync(file))) {
  // Where the server takes frames more slowly than they are read, wait.
  if (!call.write({ frame: { frameId: frameId++, encodedVideo: unit } })) {
    await new Promise((resolve) => call.once("drain", resolve));
  }
}
call.end();
