#!/usr/bin/env bash
# COCO average precision of a bundle on your own annotated pictures.
#
#   evaluate.sh BUNDLE PICTURES ANNOTATIONS OUTPUT
#
# ANNOTATIONS is a file in COCO's instances format, whose file names are looked up in PICTURES. The
# pictures go through running services, here local ones, so that what is measured is what is
# deployed: placement, codec and the JPEG quality of a camera included. It needs the extra
# `evaluate`. A run that was stopped goes on where it was when it is started again.
set -euo pipefail
[[ $# -ge 4 ]] || { echo "usage: evaluate.sh BUNDLE PICTURES ANNOTATIONS OUTPUT" >&2; exit 2; }
bundle=$1 pictures=$2 annotations=$3 output=$4

tandem evaluate --bundle "$bundle" --images "$pictures" --annotations "$annotations" \
  --placement backbone --codec int8 --jpeg-quality 90 --output "$output"
