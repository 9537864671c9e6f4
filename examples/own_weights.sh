#!/usr/bin/env bash
# Your own DETR weights as a bundle, and a picture through it.
#
#   own_weights.sh WEIGHTS BUNDLE PICTURE [OPTIONS OF tandem model import]
#
# `tandem model import` reads official .pth files, Hugging Face folders and checkpoints of `tandem
# train`, cuts the model in two, and compares the halves in ONNX Runtime with the model in torch. It
# needs the extra `train`. `calibrate` measures features on real frames, for the codecs q6 to q2.
set -euo pipefail
[[ $# -ge 3 ]] || { echo "usage: own_weights.sh WEIGHTS BUNDLE PICTURE [OPTIONS OF tandem model import]" >&2; exit 2; }
weights=$1 bundle=$2 picture=$3
shift 3

tandem model import "$weights" --out "$bundle" "$@"
tandem model calibrate "$bundle" --images "$picture" --frames 1
tandem model info "$bundle"
tandem detect "$picture" --bundle "$bundle" --threshold 0
