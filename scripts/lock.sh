#!/usr/bin/env bash
# Resolves pyproject.toml's ranges into the pinned sets of requirements/. Run after changing a range.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}
compile() {
  local output=$1
  shift
  "$uv" pip compile --quiet --no-header --no-annotate --output-file "requirements/$output" "$@"
}
compile runtime.txt pyproject.toml --python-version 3.11
compile dev.txt pyproject.toml --extra train --extra openvino --extra docs --extra dev \
  --constraint requirements/runtime.txt --python-version 3.11
# Which CUDA libraries torch needs is for the torch build that is installed to say: a CPU build
# needs none, and would not run the better for gigabytes of them.
sed -i -E '/^(nvidia-|cuda-|triton)/d' requirements/dev.txt
compile edge.txt requirements/edge.in --python-version 3.8
compile jetpack.txt requirements/services.in requirements/jetpack.in --python-version 3.10 \
  --python-platform aarch64-manylinux_2_28
compile edge-dev.txt requirements/edge-dev.in --constraint requirements/edge.txt --python-version 3.8
compile stubs.txt requirements/stubs.in --python-version 3.11
