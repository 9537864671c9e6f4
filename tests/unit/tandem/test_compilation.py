"""`tandem model build` on a machine without TensorRT, and what it says where there is one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from common.bundle import load_bundle
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.engines.base import PlanReport, Precision
from services.pipeline.shapes import compile_options
from tandem.cli.model import BuiltHalf, build_half, half_to_json, half_to_line

BUNDLE = load_bundle(Path(__file__).parents[3] / "tests" / "data" / "demo-r18")


def test_one_sentence_says_what_is_missing(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    with pytest.raises(ConfigurationError, match="'tensorrt' is not installed here: No module"):
        compilation = compile_options(BUNDLE.manifest, Stage.BACKBONE, Precision.FP16, tmp_path)
        build_half(BUNDLE, Stage.BACKBONE, compilation)


@pytest.mark.parametrize("was_cached", [False, True])
def test_what_was_built_is_told(was_cached: bool) -> None:
    plan = PlanReport(Path("cache/backbone.plan"), 2_500_000, was_cached, 61.25)
    half = BuiltHalf(Stage.BACKBONE, "tensorrt 8.2.1.8 NVIDIA Tegra X2 fp16", plan)
    made = "was there already, loaded" if was_cached else "compiled"
    assert half_to_line(half) == (
        f"backbone: tensorrt 8.2.1.8 NVIDIA Tegra X2 fp16, {made} in 61.2 s: cache/backbone.plan "
        "(2.5 MB)"
    )
    assert half_to_json(half) == {
        "stage": "backbone",
        "engine": "tensorrt 8.2.1.8 NVIDIA Tegra X2 fp16",
        "path": "cache/backbone.plan",
        "bytes": 2_500_000,
        "cached": was_cached,
        "seconds": 61.25,
    }
