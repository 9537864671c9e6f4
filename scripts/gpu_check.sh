#!/usr/bin/env bash
# Settles what works on a machine with one NVIDIA GPU, in under five minutes and without a network.
#
#   PYTHON=python3 scripts/gpu_check.sh --artwork FOLDER --output docs/gpu/CARD.jsonl
#
# FOLDER is what `python -m scenes pack FOLDER` made on a machine with a network; without it the
# training step is skipped (with --quick it learns from frames of the demo clip instead). Every step
# has a time limit of its own, tells a line of JSON, and lets the next one go on if it fails.
# Nothing is installed: what a missing package prevents is said.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" -m scripts.gpu "$@"
