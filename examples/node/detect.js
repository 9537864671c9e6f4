// A client in another language, made from the protos alone.
// node detect.js ADDRESS PROTOS_FOLDER PICTURES_FOLDER: one JSON line a response.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [address, protos, pictures] = process.argv.slice(2);
const definition = protoLoader.loadSync("tandem/v1/detector.proto", {
  includeDirs: [protos],
  enums: String,
  longs: Number,
  oneofs: true,
  defaults: true,
});
const { tandem } = grpc.loadPackageDefinition(definition);
const client = new tandem.v1.Detector(address, grpc.credentials.createInsecure());

const call = client.Detect();
call.on("data", (response) => console.log(JSON.stringify(response)));
call.on("error", (error) => {
  console.error(error.message);
  process.exitCode = 1;
});
call.on("end", () => client.close());

call.write({ options: { placement: "PLACEMENT_BACKBONE", scoreThreshold: 0 } });
readdirSync(pictures)
  .sort()
  .forEach((name, index) => {
    call.write({ frame: { frameId: index, encoded: readFileSync(join(pictures, name)) } });
  });
call.end();
