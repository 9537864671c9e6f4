// A client in another language, made from the protos alone.
// node detect.js ADDRESS PROTOS_FOLDER PICTURES_FOLDER: one JSON line a response.
//
// A system with TLS is reached with TANDEM_TLS_CA, the file of the authority of its services, and
// either TANDEM_TLS_CERTIFICATE and TANDEM_TLS_KEY, or TANDEM_TOKEN (at the port for tokens).
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [address, protos, pictures] = process.argv.slice(2);
if (pictures === undefined) {
  console.error("usage: node detect.js ADDRESS PROTOS_FOLDER PICTURES_FOLDER");
  process.exit(2);
}
const definition = protoLoader.loadSync("tandem/v1/detector.proto", {
  includeDirs: [protos],
  enums: String,
  longs: Number,
  oneofs: true,
  defaults: true,
});
const { tandem } = grpc.loadPackageDefinition(definition);
const env = process.env;
const fileOf = (name) => (env[name] ? readFileSync(env[name]) : null);
const credentials = env.TANDEM_TLS_CA
  ? grpc.credentials.createSsl(
      ...["TANDEM_TLS_CA", "TANDEM_TLS_KEY", "TANDEM_TLS_CERTIFICATE"].map(fileOf),
    )
  : grpc.credentials.createInsecure();
const client = new tandem.v1.Detector(address, credentials);

const metadata = new grpc.Metadata();
if (env.TANDEM_TOKEN) metadata.set("authorization", `Bearer ${env.TANDEM_TOKEN}`);
const call = client.Detect(metadata);
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
