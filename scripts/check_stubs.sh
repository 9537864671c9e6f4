#!/usr/bin/env bash
# Fails when the checked-in stubs are not what scripts/generate_stubs.sh makes of the protos.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
scripts/generate_stubs.sh "$fresh"
for stub in "$fresh"/protos/tandem/v1/*_pb2*; do
  diff -u "protos/tandem/v1/$(basename "$stub")" "$stub"
done
[ "$(ls "$fresh/protos/tandem/v1" | wc -l)" = "$(ls protos/tandem/v1/*_pb2* | wc -l)" ] ||
  { echo "protos/tandem/v1 holds a stub that no proto makes" >&2; exit 1; }
echo "stubs are up to date"
