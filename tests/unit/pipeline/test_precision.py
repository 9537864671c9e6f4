"""What a half is computed in: asked for, recommended, or what an engine can."""

import pytest

from common.bundle import BottleneckPart, load_bundle
from common.bundle.manifest import RecommendedPrecision
from common.domain.errors import ConfigurationError, InvalidInputError
from common.domain.placement import Stage
from common.engines.base import Device, Precision
from common.engines.registry import load_engine
from common.server.settings import load_settings
from services.pipeline.precision import PrecisionWish, PrecisionWishes, choose_precision
from services.pipeline.settings import StageSettings
from services.pipeline.shapes import compile_options
from tests.harness import ROOT, TOY_BUNDLE

DETR = load_bundle(TOY_BUNDLE).manifest
OTHER = load_bundle(ROOT / "tests/data/toy-tensors").manifest.model_copy(
    update={"precision": RecommendedPrecision(backbone="fp16", transformer="fp32")}
)
FP16, FP32 = Precision.FP16, Precision.FP32
# Its module can be asked without a GPU.
HALF = ("onnxruntime", Device.TENSORRT)
CPU = ("onnxruntime", None)


@pytest.mark.parametrize(
    ("text", "backbone", "transformer"),
    [
        ("fp16", "fp16", "fp16"),
        (" auto ", "auto", "auto"),
        ("backbone=fp16,transformer=fp32", "fp16", "fp32"),
        ("transformer = fp16", "auto", "fp16"),
        ("transformer=auto-or-fp16,backbone=fp32", "fp32", "auto-or-fp16"),
    ],
)
def test_wishes_are_for_both_halves_or_for_each(text, backbone, transformer):
    wishes = PrecisionWishes.parse(text)
    assert wishes == PrecisionWishes(PrecisionWish(backbone), PrecisionWish(transformer))


@pytest.mark.parametrize(
    "text", ["", "fp8", "decoder=fp16", "backbone=fp16,backbone=fp32", "backbone=", "fp16,fp32"]
)
def test_what_is_no_wish_is_told_with_the_form(text):
    with pytest.raises(InvalidInputError, match="is no precision: it has to be one of auto,"):
        PrecisionWishes.parse(text)


@pytest.mark.parametrize(
    ("manifest", "wish", "where", "backbone", "transformer"),
    [
        # A DETR stays what it was.
        (DETR, "auto", HALF, FP32, FP32),
        (DETR, "auto-or-fp16", HALF, FP16, FP16),
        (DETR, "auto-or-fp16", CPU, FP32, FP32),
        # A recommendation is followed where the engine can.
        (OTHER, "auto", HALF, FP16, FP32),
        (OTHER, "auto-or-fp16", HALF, FP16, FP32),
        (OTHER, "auto", CPU, FP32, FP32),
        # What is asked for is not weighed.
        (OTHER, "fp16", CPU, FP16, FP16),
        (OTHER, "fp32", HALF, FP32, FP32),
        (OTHER, "transformer=fp16", HALF, FP16, FP16),
    ],
)
def test_the_choice(manifest, wish, where, backbone, transformer):
    wishes = PrecisionWishes.parse(wish)
    chosen = [choose_precision(manifest, stage, wishes, *where).precision for stage in Stage]
    assert chosen == [backbone, transformer]


def test_what_is_not_followed_is_told():
    told = choose_precision(OTHER, Stage.BACKBONE, PrecisionWishes(), *CPU)
    assert (
        told.note == "the model recommends fp16, which engine onnxruntime does not compute in here"
    )
    assert choose_precision(DETR, Stage.BACKBONE, PrecisionWishes(), *CPU).note == ""


def test_a_part_is_computed_as_the_half_beside_it():
    wishes = PrecisionWishes.parse("backbone=fp16,transformer=fp32")
    assert wishes.of(BottleneckPart.ENCODER) is PrecisionWish.FP16
    assert wishes.of(BottleneckPart.DECODER) is PrecisionWish.FP32


def test_what_is_asked_for_and_cannot_be_is_refused(tmp_path):
    path = TOY_BUNDLE / "backbone.onnx"
    options = compile_options(DETR, Stage.BACKBONE, FP16, tmp_path)
    with pytest.raises(ConfigurationError, match="computes in fp32 only on cpu; fp16 is"):
        load_engine("onnxruntime", path, 1, options)


def test_a_stage_takes_both_forms_and_refuses_others(monkeypatch):
    given = ["--bundle", str(TOY_BUNDLE), "--node", "edge", "--engine-precision"]
    monkeypatch.setenv("TANDEM_ENGINE_PRECISION", "fp32")
    settings = load_settings(StageSettings, given[:-1], "stage")
    assert settings.precision_wishes.backbone is PrecisionWish.FP32
    settings = load_settings(StageSettings, [*given, "backbone=fp16,transformer=fp32"], "stage")
    assert settings.precision_wishes.backbone is PrecisionWish.FP16
    with pytest.raises(ConfigurationError, match="engine_precision: .*is no precision"):
        load_settings(StageSettings, [*given, "int8"], "stage")
