#!/usr/bin/env bash
# Resolves pyproject.toml's ranges into the pinned sets of requirements/. Run after changing a range.
# Releases that are pinned stay as they are while they fit; `scripts/lock.sh --upgrade` takes the newest.
#
# What ships and what builds it is locked with the sha256 of every file that an index has of it, so that
# pip installs nothing else (--require-hashes). dev.txt is not: which torch is installed, and with which
# CUDA libraries, is the machine's to say, and pip takes hashes of all packages or of none.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}
compile() {
  local output=$1
  shift
  "$uv" pip compile --quiet --no-header --no-annotate "${more[@]}" \
    --output-file "requirements/$output" "$@"
}
hashed() {
  compile "$@" --generate-hashes
}
more=("$@")
hashed runtime.txt pyproject.toml --python-version 3.11
hashed services.txt requirements/services.in requirements/traces.in --constraint requirements/runtime.txt --python-version 3.11
hashed gateway.txt pyproject.toml --extra gateway --constraint requirements/runtime.txt --python-version 3.11
compile dev.txt pyproject.toml --extra train --extra gateway --extra openvino --extra traces --extra docs --extra dev \
  --constraint requirements/runtime.txt --python-version 3.11
# Which CUDA libraries torch needs is for the torch build that is installed to say: a CPU build
# needs none, and would not run the better for gigabytes of them.
sed -i -E '/^(nvidia-|cuda-|triton==)/d' requirements/dev.txt
hashed edge.txt requirements/edge.in --python-version 3.8
hashed jetpack.txt requirements/services.in requirements/traces.in requirements/jetpack.in --python-version 3.10 \
  --python-platform aarch64-manylinux_2_28
hashed edge-dev.txt requirements/edge-dev.in --constraint requirements/edge.txt --python-version 3.8
hashed stubs.txt requirements/stubs.in --python-version 3.11
hashed audit.txt requirements/audit.in --python-version 3.11
