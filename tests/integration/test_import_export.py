"""`tandem model import` and the demo bundle, through the commands that a user runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from common.bundle import Architecture, FixedInput, InputPolicy, ShortestEdgeInput, load_bundle
from common.domain.detections import DetectionOptions
from common.domain.errors import ConfigurationError, TandemError
from common.domain.frames import PixelFormat, RawImage
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.decode import decode_image
from common.vision.position import transformer_inputs
from common.vision.postprocess import detections
from common.vision.preprocess import preprocess
from detr.cli import parse_input_size
from detr.demo_bundle import FOLDER as DEMO_FOLDER
from detr.demo_bundle import demo_model, make_demo_bundle
from detr.model import DETR
from tandem.cli.app import run_command

ROOT = Path(__file__).parents[2]
ARCHITECTURE = Architecture(
    backbone="resnet34",
    base_width=8,
    encoder_layers=1,
    decoder_layers=2,
    hidden_dim=32,
    heads=4,
    feedforward_dim=48,
    queries=9,
)


def tandem(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tandem", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """Models this small lose more by waiting for a second thread than they gain by it."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "detr-r34.pth"
    torch.save({"model": DETR(ARCHITECTURE).state_dict()}, path)
    return path


def test_import_prints_what_it_made(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "r34"
    done = tandem(
        "model", "import", str(checkpoint), "--out", str(out), "--json", "--heads", "4",
        "--input-size", "96x128", "--split", "c5", "--license", "Apache-2.0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    bundle = load_bundle(out)
    assert report["path"] == str(out)
    assert report["digest"] == bundle.digest
    assert report["architecture"] == ARCHITECTURE.model_dump()
    assert 0 < report["max_difference"] <= 1e-4
    manifest = bundle.manifest
    assert (manifest.name, manifest.split, manifest.trained) == ("r34", "c5", True)
    assert manifest.input == FixedInput(height=96, width=128)
    assert manifest.license == "Apache-2.0"
    assert "detr-r34.pth" in manifest.origin
    assert len(manifest.categories) == 80


def test_import_in_words(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    assert run_command(["model", "import", str(checkpoint), "--out", str(out), "--dilation"]) == 0
    printed = capsys.readouterr().out
    for expected in ("resnet34, base width 8, dilated", "8 heads, 9 queries", "largest difference"):
        assert expected in printed
    assert load_bundle(out).manifest.feature_stride == 16


def test_a_failure_is_one_sentence(tmp_path: Path) -> None:
    done = tandem("model", "import", str(tmp_path / "nothing.pth"), "--out", str(tmp_path / "b"))
    assert done.returncode != 0
    assert "nothing.pth does not exist" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--input-size", "huge", "neither HxW"),
        ("--heads", "5", "no multiple of 5 heads"),
    ],
)
def test_options_that_cannot_be_leave_nothing(
    option: str, value: str, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    with pytest.raises(TandemError, match=message):
        run_command(["model", "import", str(checkpoint), "--out", str(out), option, value])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("320x480", FixedInput(height=320, width=480)),
        ("800:1333", ShortestEdgeInput()),
        ("800", ShortestEdgeInput()),
        ("480", ShortestEdgeInput(shortest_edge=480, longest_edge=800)),
        ("480:480", ShortestEdgeInput(shortest_edge=480, longest_edge=480)),
    ],
)
def test_input_sizes(text: str, policy: InputPolicy) -> None:
    assert parse_input_size(text) == policy


@pytest.mark.parametrize(
    "text", ["", "x", "320x", "320 x 320", "-1", "0x5", "800:700", "0", "1:2:3"]
)
def test_bad_input_sizes(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--input-size"):
        parse_input_size(text)


def test_the_demo_bundle_is_rebuilt_bit_for_bit(tmp_path: Path) -> None:
    first = make_demo_bundle(tmp_path / "first").bundle
    second = make_demo_bundle(tmp_path / "second").bundle
    assert first.digest == second.digest
    shipped = load_bundle(DEMO_FOLDER)
    assert shipped.manifest.model_copy(update={"files": {}}) == first.manifest.model_copy(
        update={"files": {}}
    )
    # Another processor draws the same random numbers only up to rounding.
    for stage in Stage:
        theirs, ours = (onnx.load(bundle.onnx_path(stage)) for bundle in (shipped, first))
        for one, other in zip(theirs.graph.initializer, ours.graph.initializer, strict=True):
            arrays = [onnx.numpy_helper.to_array(initializer) for initializer in (one, other)]
            np.testing.assert_allclose(*arrays, atol=1e-6)
        assert [node.op_type for node in theirs.graph.node] == [
            node.op_type for node in ours.graph.node
        ]


def test_the_demo_bundle_is_small_and_says_that_it_is_untrained() -> None:
    assert sum(path.stat().st_size for path in DEMO_FOLDER.iterdir()) < 12e6
    manifest = load_bundle(DEMO_FOLDER).manifest
    assert not manifest.trained
    assert manifest.input == FixedInput(height=320, width=320)
    assert manifest.architecture.classes == 91


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_a_frame_through_both_halves_equals_the_whole_model(engine: str) -> None:
    """From the frame's bytes to boxes in its pixels, as the services go."""
    bundle = load_bundle(DEMO_FOLDER)
    manifest = bundle.manifest
    noise = np.random.default_rng(0).integers(0, 256, (240, 400, 3), dtype=np.uint8)
    frame = RawImage(400, 240, PixelFormat.RGB8, noise.tobytes())
    options = DetectionOptions(score_threshold=0.0)
    pixels, geometry = preprocess(
        decode_image(frame, 1_000_000), manifest.input, manifest.normalization
    )
    backbone = load_engine(engine, bundle.onnx_path(Stage.BACKBONE), 1)
    transformer = load_engine(engine, bundle.onnx_path(Stage.TRANSFORMER), 1)
    features = backbone.run({"pixels": pixels})["features"]
    pos, mask = transformer_inputs(geometry, features.shape[2:], manifest.architecture.hidden_dim)
    outputs = transformer.run({"features": features, "pos": pos, "mask": mask})
    found = detections(
        outputs["logits"][0],
        outputs["boxes"][0],
        geometry,
        manifest.categories,
        options,
        scoring=manifest.scoring,
    )

    padding = torch.ones(1, 320, 320, dtype=torch.bool)
    padding[:, : geometry.valid_height, : geometry.valid_width] = False
    with torch.inference_mode():
        whole = demo_model()(torch.from_numpy(pixels), padding)
    expected = detections(
        whole.logits[0].numpy(),
        whole.boxes[0].numpy(),
        geometry,
        manifest.categories,
        options,
        scoring=manifest.scoring,
    )
    assert len(found) == len(expected) > 50
    for one, other in zip(found, expected, strict=True):
        assert one.category_id == other.category_id
        assert one.score == pytest.approx(other.score, abs=1e-5)
        for side in ("x_min", "y_min", "x_max", "y_max"):
            assert getattr(one.box, side) == pytest.approx(getattr(other.box, side), abs=1e-3)
