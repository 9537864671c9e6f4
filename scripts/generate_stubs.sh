#!/usr/bin/env bash
# Generates the Python stubs of protos/ in place (or below the folder named as argument).
# grpcio-tools is pinned to the oldest release that Tandem runs on: its stubs run on newer
# protobuf and gRPC as well, the reverse does not hold.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-.}
python=.venv/stubs/bin/python
mkdir -p "$out/protos"
"$python" -m grpc_tools.protoc -I protos \
  --python_out="$out/protos" --pyi_out="$out/protos" protos/tandem/v1/*.proto protos/inference/*.proto
"$python" -m grpc_tools.protoc -I protos --grpc_python_out="$out/protos" \
  protos/tandem/v1/{detector,models,operations,stage}.proto protos/inference/open_inference.proto
# File names within the protos are those of any language (tandem/v1/...), Python's packages start
# at the repository's root.
sed -i -E 's/^from (tandem\.v1|inference) import/from protos.\1 import/' \
  "$out"/protos/{tandem/v1,inference}/*_pb2*.py*
