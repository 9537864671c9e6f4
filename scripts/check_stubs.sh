#!/usr/bin/env bash
# Fails when the checked-in stubs are not what scripts/generate_stubs.sh makes of the protos.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
scripts/generate_stubs.sh "$fresh"
for folder in protos/tandem/v1 protos/inference; do
  for stub in "$fresh/$folder"/*_pb2*; do
    diff -u "$folder/$(basename "$stub")" "$stub"
  done
  [ "$(ls "$fresh/$folder" | wc -l)" = "$(ls "$folder"/*_pb2* | wc -l)" ] ||
    { echo "$folder holds a stub that no proto makes" >&2; exit 1; }
done
echo "stubs are up to date"
