"""Two formats, read by the same names; each is refused where it does not fit itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest

from common.bundle import (
    CutTensor,
    DetrManifest,
    FamilyManifest,
    Normalization,
    Opset,
    RecommendedPrecision,
    SigmoidScoring,
    SoftmaxScoring,
    load_bundle,
    require_detr,
    write_bundle,
)
from common.domain.errors import ConfigurationError
from tests.harness import ROOT, TOY_BUNDLE, TOY_TENSORS


def test_a_detr_is_read_by_the_names_of_both_formats() -> None:
    manifest = load_bundle(TOY_BUNDLE).manifest
    assert isinstance(manifest, DetrManifest)
    assert manifest.family == "detr"
    assert manifest.cut == (CutTensor(name="features", channels=8, stride=32),)
    assert manifest.position_channels == 8
    assert manifest.scoring == SoftmaxScoring()
    assert manifest.opset == Opset(backbone=13, transformer=13)
    assert manifest.precision is None


def test_a_model_of_another_family() -> None:
    manifest = load_bundle(TOY_TENSORS).manifest
    assert isinstance(manifest, FamilyManifest)
    assert manifest.family == "toy"
    assert [(each.name, each.channels, each.stride) for each in manifest.cut] == [
        ("features_16", 6, 16),
        ("features_32", 10, 32),
    ]
    assert manifest.position_channels is None
    assert manifest.scoring == SigmoidScoring(top_k=8)
    assert manifest.opset == Opset(backbone=13, transformer=16)
    assert manifest.precision == RecommendedPrecision(backbone="fp16", transformer="fp32")
    assert manifest.normalization == Normalization(mean=(0, 0, 0), std=(1, 1, 1))


def test_cells_of_a_level_round_up() -> None:
    tensor = CutTensor(name="features", channels=10, stride=32)
    assert tensor.grid(64, 96) == (2, 3)
    assert tensor.grid(65, 1) == (3, 1)
    assert tensor.values(65, 1) == 30


@pytest.mark.parametrize("folder", [TOY_BUNDLE, TOY_TENSORS, ROOT / "models/demo-r50"])
def test_a_manifest_that_is_read_and_written_keeps_every_byte(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(str(folder), str(tmp_path / "copy")))
    before = (copy / "bundle.json").read_bytes()
    assert write_bundle(copy, load_bundle(copy).manifest).digest == load_bundle(folder).digest
    assert (copy / "bundle.json").read_bytes() == before


def test_the_configuration_is_kept_as_it_is(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(str(TOY_TENSORS), str(tmp_path / "copy")))
    said = {"a": None, "b": [1, {"c": None}], "d": 0.5}
    manifest = load_bundle(copy).manifest.model_copy(update={"configuration": said})
    assert write_bundle(copy, manifest).manifest.configuration == said


def test_what_needs_a_detr_names_the_other_family() -> None:
    detr = load_bundle(TOY_BUNDLE).manifest
    assert require_detr(detr, "this") is detr
    with pytest.raises(
        ConfigurationError, match="a thing needs a plain DETR, and toy-tensors is of"
    ):
        require_detr(load_bundle(TOY_TENSORS).manifest, "a thing")


FINE = {"name": "features_16", "channels": 6, "stride": 16}
COARSE = {"name": "features_32", "channels": 10, "stride": 32}
ONLY = {"name": "features", "channels": 16, "stride": 16}
BOTTLENECK = {
    "channels": 2,
    "rates": {name: {"step": 4} for name in ("latent-fine", "latent", "latent-coarse")},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": []}, "0 tensors cross the cut; it has to be 1 to 8"),
        (
            {"cut": [{**FINE, "name": f"features_{s}", "stride": s} for s in range(1, 10)]},
            "9 tensors cross the cut",
        ),
        ({"cut": [COARSE, FINE]}, "not by stride, the finest first"),
        ({"cut": [FINE, {**FINE, "name": "features_17"}]}, "not by stride, the finest first"),
        ({"cut": [FINE, {**COARSE, "name": "pos"}]}, "is called 'pos', not 'features_32'"),
        ({"cut": [{**ONLY, "name": "logits"}]}, "is called 'logits', not 'features'"),
        ({"cut": [{**FINE, "channels": 0}, COARSE]}, r"cut\.0\.channels: "),
        ({"cut": [FINE, {**COARSE, "stride": 1 << 20}]}, r"cut\.1\.stride: "),
        ({"position_channels": 8}, "position_channels are those beside one cut tensor"),
        ({"position_channels": 6, "cut": [ONLY]}, "position_channels: .*multiple of 4"),
        ({"bottleneck": BOTTLENECK}, "one cut tensor, and there are 2"),
        ({"scoring": {"kind": "sigmoid"}}, r"scoring\.sigmoid\.top_k: "),
        ({"scoring": {"kind": "sigmoid", "top_k": 10**9}}, r"scoring\.sigmoid\.top_k: "),
        ({"scoring": {"kind": "argmax"}}, "scoring: .*'argmax'"),
        ({"scoring": None}, "scoring: "),
        ({"input": {"policy": "stretch", "height": 0, "width": 9}}, r"input\.stretch\.height: "),
        ({"input": {"policy": "stretch", "height": 9, "width": 1 << 20}}, r"input\.stretch\.width"),
        ({"family": "detr"}, "a plain DETR is written in format 1"),
        ({"family": "D FINE"}, "family: "),
        ({"opset": {"backbone": 12, "transformer": 16}}, r"opset\.backbone: "),
        ({"precision": {"backbone": "int8"}}, r"precision\.backbone: "),
        ({"architecture": {}}, "architecture: Extra inputs are not permitted"),
        (
            {"categories": [{"class_index": 1, "id": i, "name": "x"} for i in (1, 2)]},
            "two categories have the same class_index",
        ),
        ({"files": {"../backbone.onnx": ""}}, "is no file directly in the bundle's folder"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: Dict[str, Any], message: str, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(str(TOY_TENSORS), str(tmp_path / "copy")))
    content = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**content, **changes}))
    with pytest.raises(ConfigurationError, match=message):
        load_bundle(copy)


@pytest.mark.parametrize("cut", [[FINE, {**COARSE, "channels": 9}], [{**ONLY, "channels": 15}]])
def test_the_calibration_is_of_all_levels_together(cut: Any, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(str(TOY_TENSORS), str(tmp_path / "copy")))
    content = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**content, "cut": cut}))
    with pytest.raises(
        ConfigurationError, match="calibration has 16 channels, the features have 15"
    ):
        load_bundle(copy)


def test_one_cut_tensor_may_have_a_position_and_a_bottleneck(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(str(TOY_TENSORS), str(tmp_path / "copy")))
    content = json.loads((copy / "bundle.json").read_text())
    one = {"cut": [ONLY], "position_channels": 8, "bottleneck": BOTTLENECK}
    (copy / "bundle.json").write_text(json.dumps({**content, **one}))
    assert load_bundle(copy).manifest.position_channels == 8


def test_a_detr_is_not_stretched(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(str(TOY_BUNDLE), str(tmp_path / "copy")))
    content = json.loads((copy / "bundle.json").read_text())
    content["input"]["policy"] = "stretch"
    (copy / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match="input: .*'stretch'"):
        load_bundle(copy)
