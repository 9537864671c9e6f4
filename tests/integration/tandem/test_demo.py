import json
import re
import shutil
import subprocess
import sys

import cv2
import pytest

from common.domain.detections import Box
from tandem.cli.demo import accuracy_sentence, best_frame, largest_difference
from tandem.shipped import Tally, TrueObject
from tests.harness import ROOT, TOY_BUNDLE, clean_environment
from tests.unit.tandem.factories import detection, read_video, result

pytestmark = pytest.mark.slow


def run_demo(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tandem.cli.demo", *map(str, arguments)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_demo_shows_everything(tmp_path):
    finished = run_demo("--bundle", TOY_BUNDLE, "--frames", 20, "--output", tmp_path / "out")
    assert (finished.returncode, finished.stderr) == (0, "")
    told = finished.stdout
    assert "its boxes mean NOTHING yet" in told
    for placement in ("full", "backbone", "transformer", "workstation"):
        assert f"│ {placement} " in told
    assert "All placements gave the same 60 boxes" in told
    found = re.findall(
        r"│ (each frame as JPEG|the camera's H.264 as it is|\w+, codec [\w-]+) +│ +([\d.]+) │", told
    )
    sizes = {name: float(size) for name, size in found}
    jpeg, video = "each frame as JPEG", "the camera's H.264 as it is"
    assert list(sizes) == [jpeg, video, "features, codec int8", "latents, codec latent"]
    assert sizes[jpeg] > 3 * sizes[video] > 1 > sizes["features, codec int8"]
    assert sizes["latents, codec latent"] < sizes["features, codec int8"]
    assert len(read_video(tmp_path / "out/clip.mp4")[0]) == 20
    assert cv2.imread(str(tmp_path / "out/frame.jpg")) is not None
    assert str(tmp_path / "out/clip.mp4") in told


def test_a_wrong_bundle_is_one_sentence(tmp_path):
    finished = run_demo("--bundle", tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.startswith("python -m tandem.cli.demo: no bundle at")


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([detection(box=(5, 5, 30, 20))], 0.0),
        ([detection(box=(5, 5, 30.5, 19))], 1.0),
        ([detection(2)], float("inf")),
        ([], float("inf")),
    ],
)
def test_largest_difference(other, expected):
    one = [result(detections=[detection(box=(5, 5, 30, 20))])]
    assert largest_difference(one, [result(detections=other)]) == expected


def test_accuracy():
    assert accuracy_sentence(Tally(found=1, missed=1, invented=1, frames=3, perfect_frames=2)) == (
        "Found 1 of 2 objects and invented 1 (score 0.7, IoU 0.5, the right category); "
        "66.7% of the frames are perfect."
    )


def test_the_picture_is_of_a_frame_with_nothing_invented():
    there = [TrueObject(1, Box(5, 5, 30, 20))]
    twice = result(0, [detection(), detection()])
    once = result(1, [detection()])
    assert best_frame([twice, once, result(2)], dict.fromkeys(range(3), there)) is once


def test_a_shipped_model_that_finds_too_little_fails(tmp_path):
    """What finds next to nothing here is the toy, in the place of the model that ships."""
    wrong = shutil.copytree(TOY_BUNDLE, tmp_path / "wrong")
    manifest = json.loads((wrong / "bundle.json").read_text())
    manifest.update(name="demo-r50", trained=True)
    (wrong / "bundle.json").write_text(json.dumps(manifest))
    finished = run_demo("--bundle", wrong, "--output", tmp_path / "out")
    assert finished.returncode == 1
    assert re.search(r"demo-r50 found \d+ of the clip's 960 objects and invented", finished.stderr)
