"""Bundles: what is written is read, and what does not fit together is refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest
from pydantic import ValidationError

from common.bundle import (
    Architecture,
    Calibration,
    Category,
    CodecDefaults,
    DetrManifest,
    FixedInput,
    ShortestEdgeInput,
    load_bundle,
    write_bundle,
)
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage

# ONNX files of nothing but their producer's name.
FIRST, SECOND, ANOTHER = b"\x12\x05first", b"\x12\x06second", b"\x12\x07another"


def manifest(**changes: Any) -> DetrManifest:
    content: Dict[str, Any] = {
        "name": "small",
        "architecture": Architecture(backbone="resnet18", base_width=8, hidden_dim=32, classes=3),
        "feature_channels": 32,
        "feature_stride": 32,
        "input": FixedInput(height=64, width=96),
        "categories": (Category(class_index=1, id=1, name="person"),),
        "files": {"backbone.onnx": "", "transformer.onnx": ""},
        "license": "Apache-2.0",
        "origin": "a test",
    }
    return DetrManifest(**{**content, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "backbone.onnx").write_bytes(FIRST)
    (tmp_path / "transformer.onnx").write_bytes(SECOND)
    return tmp_path


def test_what_is_written_is_read(folder: Path) -> None:
    written = write_bundle(folder, manifest())
    bundle = load_bundle(folder)
    assert bundle == written
    assert bundle.manifest.files == {
        "backbone.onnx": hashlib.sha256(FIRST).hexdigest(),
        "transformer.onnx": hashlib.sha256(SECOND).hexdigest(),
    }
    assert bundle.digest == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    assert bundle.onnx_path(Stage.TRANSFORMER) == folder / "transformer.onnx"


def test_the_digest_follows_every_file(folder: Path) -> None:
    first = write_bundle(folder, manifest()).digest
    assert write_bundle(folder, manifest()).digest == first
    (folder / "backbone.onnx").write_bytes(ANOTHER)
    assert write_bundle(folder, manifest()).digest != first


def test_a_changed_half_is_refused(folder: Path) -> None:
    bundle = write_bundle(folder, manifest())
    (folder / "backbone.onnx").write_bytes(ANOTHER)
    with pytest.raises(ConfigurationError, match=r"backbone\.onnx has sha256"):
        bundle.onnx_path(Stage.BACKBONE)
    assert bundle.onnx_path(Stage.TRANSFORMER).is_file()


def test_a_calibration_is_written_and_has_to_fit_the_features(folder: Path) -> None:
    clip = dict.fromkeys(("q6", "q5", "q4", "q3", "q2"), 2.5)

    def calibrated(channels: int) -> CodecDefaults:
        values = (0.5,) * channels
        return CodecDefaults(
            default="q4",
            calibration=Calibration(frames=9, mean=values, std=values, clip=clip),
        )

    plain = write_bundle(folder, manifest())
    assert "calibration" not in (folder / "bundle.json").read_text()
    written = write_bundle(folder, manifest(codec=calibrated(32)))
    assert load_bundle(folder).manifest.codec == calibrated(32)
    assert written.digest != plain.digest
    assert sorted(path.name for path in folder.iterdir()) == [
        *("backbone.onnx", "bundle.json", "transformer.onnx")
    ]
    with pytest.raises(ValidationError, match="calibration has 31 channels, the features have 32"):
        manifest(codec=calibrated(31))


def test_missing_and_unlisted_halves_are_refused(folder: Path) -> None:
    unlisted = write_bundle(folder, manifest(files={"backbone.onnx": ""}))
    with pytest.raises(ConfigurationError, match=r"does not list transformer\.onnx"):
        unlisted.onnx_path(Stage.TRANSFORMER)
    (folder / "backbone.onnx").unlink()
    with pytest.raises(ConfigurationError, match=r"backbone\.onnx is missing"):
        unlisted.onnx_path(Stage.BACKBONE)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no bundle at .*bundle\.json"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format_version", 3, "is of format 3, and this release of Tandem reads the formats 1 and"),
        ("format_version", "two", "format_version: "),
        ("colour", "red", "colour: Extra inputs are not permitted"),
        ("input", {"policy": "stretch"}, "input: .*'stretch'"),
        ("input", {"policy": "fixed", "height": 0, "width": 9}, "input.fixed.height: "),
        ("split", "c4", "split: "),
        ("feature_channels", 64, "feature_channels is 64, but split 'projected'.* has 32"),
    ],
)
def test_a_malformed_manifest_names_its_keys(
    folder: Path, key: str, value: object, message: str
) -> None:
    write_bundle(folder, manifest())
    content = json.loads((folder / "bundle.json").read_text())
    content[key] = value
    (folder / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match=message):
        load_bundle(folder)


def test_not_json(folder: Path) -> None:
    (folder / "bundle.json").write_text("{")
    with pytest.raises(ConfigurationError, match="Invalid JSON"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_stride": 16}, "feature_stride is 16, but this architecture has 32"),
        ({"split": "c5"}, "feature_channels is 32, but split 'c5' of this architecture has 64"),
        (
            {"categories": tuple(Category(class_index=1, id=i, name="x") for i in (1, 2))},
            "two categories have the same class_index",
        ),
        (
            {"categories": (Category(class_index=3, id=3, name="x"),)},
            "class_index 3, but there are only 3 classes",
        ),
    ],
)
def test_a_manifest_agrees_with_its_architecture(changes: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        manifest(**changes)


def test_architectures_that_cannot_be() -> None:
    with pytest.raises(ValidationError, match="hidden_dim 30 is no multiple of 4"):
        Architecture(backbone="resnet18", hidden_dim=30, heads=5)
    with pytest.raises(ValidationError, match="hidden_dim 32 is no multiple of 5 heads"):
        Architecture(backbone="resnet18", hidden_dim=32, heads=5)
    with pytest.raises(ValidationError, match="longest_edge 700 is below shortest_edge 800"):
        ShortestEdgeInput(longest_edge=700)


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048), ("resnet101", 2048)],
)
def test_channels_and_stride_of_the_backbone(backbone: Any, channels: int) -> None:
    assert Architecture(backbone=backbone).backbone_channels == channels
    assert Architecture(backbone=backbone).stride == 32
    assert Architecture(backbone=backbone, dilation=True).stride == 16


def test_a_bundle_can_be_moved(folder: Path, tmp_path: Path) -> None:
    digest = write_bundle(folder, manifest()).digest
    moved = shutil.copytree(str(folder), str(tmp_path / "moved"))
    assert load_bundle(moved).digest == digest
