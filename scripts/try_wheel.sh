#!/usr/bin/env bash
# Builds the wheel into dist/ and tries it as a user would: in a fresh environment, in another folder.
# `make wheel` and CI call this. PYTHON is the interpreter to try it with.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
PYTHON=${PYTHON:-python3.11}
export PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '%s\n' "$*"; }

# A file that is no package any more must not come out of an earlier build.
rm -rf build dist
"$PYTHON" -m venv "$work/venv"
bin=$work/venv/bin
"$bin/pip" wheel --quiet --no-deps --wheel-dir dist .
rm -rf build
wheel=$(echo "$root"/dist/tandem_detr-*.whl)
say "built $(basename "$wheel"), $(stat -c %s "$wheel") bytes"

"$bin/python" - "$wheel" <<'PYTHON'
import sys, zipfile
names = zipfile.ZipFile(sys.argv[1]).namelist()
packages = {name.split("/")[0] for name in names if ".dist-info/" not in name}
wanted = {"common", "detr", "protos", "services", "tandem"}
assert packages == wanted, f"the wheel has {sorted(packages)}, it should have {sorted(wanted)}"
for needed in ("tandem/py.typed", "protos/tandem/v1/detector.proto", "protos/tandem/v1/detector_pb2.pyi"):
    assert needed in names, f"{needed} is missing"
recipes = [name for name in names if name.endswith(".yaml")]
assert recipes, "the training recipes are missing"
print(f"{len(names)} files of {', '.join(sorted(packages))}")
PYTHON

# With hashes pip would ask for the wheel's own.
grep -oE '^[^ ;]+==[^ ;]+' requirements/runtime.txt >"$work/releases.txt"
"$bin/pip" install --quiet --constraint "$work/releases.txt" "$wheel"
"$bin/pip" check
cd "$work"
unset PYTHONPATH

version=$("$bin/tandem" --version)
expected="tandem $(basename "$wheel" | cut -d- -f2)"
[ "$version" = "$expected" ] || { say "tandem --version says $version, not $expected"; exit 1; }
say "$version"

say "tandem detect, in one process"
"$bin/tandem" detect "$root/models/demo-clip/clip.mp4" --bundle "$root/models/demo-r50" --limit 1 --output first.jsonl
"$bin/python" - <<PYTHON
import av
from tandem import Detection, LocalDetector

with av.open("$root/models/demo-clip/clip.mp4") as clip:
    frame = next(clip.decode(video=0))
frame.to_image().save("frame.png")
with LocalDetector("$root/models/demo-r50") as detector:
    found = detector.detect_one(frame.to_ndarray(format="rgb24"))
assert found and all(isinstance(one, Detection) for one in found), found
print("LocalDetector:", ", ".join(f"{one.category_name} {one.score:.0%}" for one in found))
PYTHON
"$bin/tandem" detect frame.png --bundle "$root/models/demo-r50" --output boxes.png
[ -s boxes.png ]

say "tandem detect, through services of the wheel"
"$bin/tandem" detect frame.png --bundle "$root/models/demo-r50" --placement backbone
for service in backbone transformer orchestrator check; do
  "$bin/python" -m "services.$service" --help > /dev/null
done

say "what the wheel leaves out is told in a sentence"
"$bin/tandem" train --help | grep 'this command needs torch'
if "$bin/tandem" train --recipe demo-r50 2> refusal; then exit 1; fi
grep '^tandem: ' refusal
say "the wheel works"
