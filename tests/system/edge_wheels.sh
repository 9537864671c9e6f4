#!/usr/bin/env bash
# Downloads the pip layers of the Jetsons' images as these would: wheels only, for aarch64, for the
# Python and the glibc of each JetPack. Shows that all of it resolves without a compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# wheels REQUIREMENTS PYTHON GLIBC_MINOR...: pip takes none older than it is told of.
wheels() {
  local requirements=$1 python=$2 minor
  local platforms=(--platform manylinux2014_aarch64)
  shift 2
  for minor in "$@"; do
    platforms+=(--platform "manylinux_2_${minor}_aarch64")
  done
  rm -rf "${folder:?}"/*
  "$PYTHON" -m pip download --quiet --disable-pip-version-check --dest "$folder" \
    "${look_at[@]}" --only-binary :all: --implementation cp --python-version "$python" \
    "${platforms[@]}" --requirement "requirements/$requirements"
  if find "$folder" -type f ! -name '*.whl' | grep .; then
    echo "these are no wheels" >&2
    exit 1
  fi
  echo "$requirements: $(find "$folder" -name '*.whl' | wc -l) wheels for Python $python on" \
    "aarch64, $(find "$folder" -name '*aarch64*.whl' | wc -l) of them compiled," \
    "$(du -sm "$folder" | cut -f1) MB"
}

# pip reads what packages need "on Python 3.8" by the Python that it runs on itself, so here it must
# not look at that; `make test-edge` installs these with all that they need on a Python 3.8.
look_at=(--no-deps)
wheels edge.txt 3.8 17 24 27              # JetPack 4.6: Ubuntu 18.04
look_at=()
wheels jetpack.txt 3.10 17 24 27 28 34 35 # JetPack 6.2: Ubuntu 22.04
wheels jetpack.txt 3.12 17 24 27 28 34 35 39 # JetPack 7.2: Ubuntu 24.04
