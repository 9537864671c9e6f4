"""Halves of every family in ONNX Runtime, on Python 3.8 as well."""

from pathlib import Path

import numpy as np
import pytest

from common.bundle import load_bundle
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.position import inputs_beside_cut
from tests.tiny_families import SIDE, frames, prepared

FOLDER = Path(__file__).parents[2] / "data" / "families"
NAMES = ["conditional_detr", "d_fine", "d_fine_discrete", "rf_detr", "rt_detr_v2"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2])
def test_the_halves_equal_transformers(name, count):
    bundle = load_bundle(FOLDER / name)
    manifest = bundle.manifest
    pixels, geometry = prepared(frames()[:count], manifest.input, manifest.normalization)
    halves = {stage: load_engine("onnxruntime", bundle.onnx_path(stage), 0) for stage in Stage}
    levels = halves[Stage.BACKBONE].run({"pixels": pixels})
    assert set(levels) == {tensor.name for tensor in manifest.cut}
    for tensor in manifest.cut:
        expected = (count, tensor.channels, SIDE // tensor.stride, SIDE // tensor.stride)
        assert levels[tensor.name].shape == expected
    beside = inputs_beside_cut(manifest, geometry)
    mask = {"mask": np.repeat(beside["mask"], count, axis=0)} if beside else {}
    outputs = halves[Stage.TRANSFORMER].run({**levels, **beside, **mask})
    with np.load(str(FOLDER / (name + ".npz"))) as told:
        for output in ("logits", "boxes"):
            np.testing.assert_allclose(outputs[output], told[output][:count], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_manifests_say_what_the_halves_need(name):
    manifest = load_bundle(FOLDER / name).manifest
    assert manifest.format_version == 2
    assert manifest.family == name.replace("_discrete", "")
    assert manifest.precision.backbone == "fp16"
    assert manifest.precision.transformer == "fp32"
    assert manifest.opset.backbone == 13
    samples = name in ("d_fine", "rf_detr", "rt_detr_v2")
    assert manifest.opset.transformer == (16 if samples else 13)
    assert [each.name for each in manifest.categories] == ["cat", "dog", "own thing"]
