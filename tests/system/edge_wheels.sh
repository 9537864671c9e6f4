#!/usr/bin/env bash
# Downloads the edge image's pip layer as the TX2 would: wheels only, for CPython 3.8 on aarch64
# with glibc 2.17 or later (JetPack 4 has 2.27). Shows that all of it resolves without a compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$PYTHON" -m pip download --quiet --disable-pip-version-check --dest "$folder" \
  --only-binary :all: --implementation cp --python-version 3.8 \
  --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 \
  --requirement requirements/edge.txt
if find "$folder" -type f ! -name '*.whl' | grep .; then
  echo "these are no wheels" >&2
  exit 1
fi
echo "$(find "$folder" -name '*.whl' | wc -l) wheels for cp38 on aarch64," \
  "$(find "$folder" -name '*aarch64*.whl' | wc -l) of them compiled, $(du -sm "$folder" | cut -f1) MB"
