"""A stage's engine is its half, and its part of the bottleneck where the frame asks for it."""

import shutil
import time
from contextlib import closing

import numpy as np
import pytest

from common.bundle import BottleneckPart, load_bundle, write_bundle
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.engines.bottleneck import PIXELS_TO_LATENTS
from common.engines.registry import load_engine
from services.pipeline.loading import load_stage_engine
from services.pipeline.settings import StageSettings
from tests.harness import TOY_BUNDLE

PIXELS = np.random.default_rng(0).normal(0, 1, (2, 3, 96, 128)).astype(np.float32)
BESIDE = {"pos": np.ones((1, 8, 3, 4), np.float32), "mask": np.zeros((1, 3, 4), np.float32)}


def settings_of(folder=TOY_BUNDLE, **values):
    return StageSettings(bundle=folder, node="edge", port=0, metrics_port=0, **values)


def run_alone(graph, inputs):
    with closing(load_engine("onnxruntime", load_bundle(TOY_BUNDLE).onnx_path(graph), 1)) as engine:
        return engine.run(inputs)


@pytest.fixture(scope="module")
def features():
    return run_alone(Stage.BACKBONE, {"pixels": PIXELS})["features"]


def test_the_backbone_gives_what_the_input_s_name_asks_for(features):
    with closing(load_stage_engine(Stage.BACKBONE, settings_of(), load_bundle(TOY_BUNDLE))) as both:
        plain = both.run({"pixels": PIXELS})
        latents = both.run({PIXELS_TO_LATENTS: PIXELS})
    assert set(plain) == {"features"}
    np.testing.assert_array_equal(plain["features"], features)
    assert set(latents) == {"latents"}
    expected = run_alone(BottleneckPart.ENCODER, {"features": features})["latents"]
    np.testing.assert_array_equal(latents["latents"], expected)
    assert latents["latents"].shape == (2, 8, 3, 4)
    assert np.array_equal(expected, np.rint(expected))
    assert expected.any()


def test_the_transformer_takes_either(features):
    features = features[:1]
    latents = run_alone(BottleneckPart.ENCODER, {"features": features})["latents"]
    bundle = load_bundle(TOY_BUNDLE)
    with closing(load_stage_engine(Stage.TRANSFORMER, settings_of(), bundle)) as both:
        plain = both.run({"features": features, **BESIDE})
        through = both.run({"latents": latents, **BESIDE})
    # The toy's bottleneck loses a thousandth of a feature.
    np.testing.assert_allclose(through["boxes"], plain["boxes"], atol=2e-3)
    assert not np.array_equal(through["boxes"], plain["boxes"])


def timed(engine, pixels):
    started = time.perf_counter()
    engine.run({PIXELS_TO_LATENTS: pixels})
    return time.perf_counter() - started


def test_only_the_half_is_paced():
    settings = settings_of(paced_milliseconds=100)
    with closing(load_stage_engine(Stage.BACKBONE, settings, load_bundle(TOY_BUNDLE))) as both:
        both.run({PIXELS_TO_LATENTS: PIXELS[:1]})
        seconds = min(timed(both, PIXELS[:1]) for _ in range(5))
    assert "simulated pace 100 ms" in both.description
    assert 0.1 <= seconds < 0.2


def test_a_bundle_without_a_bottleneck_needs_no_parts(tmp_path):
    folder = shutil.copytree(str(TOY_BUNDLE), str(tmp_path / "toy"))
    manifest = load_bundle(folder).manifest
    files = {stage: "" for stage in ("backbone.onnx", "transformer.onnx")}
    bundle = write_bundle(folder, manifest.model_copy(update={"bottleneck": None, "files": files}))
    for part in BottleneckPart:
        (bundle.folder / f"{part.value}.onnx").unlink()
    with closing(load_stage_engine(Stage.BACKBONE, settings_of(folder), bundle)) as half:
        assert set(half.run({"pixels": PIXELS})) == {"features"}


@pytest.mark.parametrize("part", BottleneckPart)
def test_a_part_that_is_not_the_bundle_s_is_refused(part, tmp_path):
    folder = shutil.copytree(str(TOY_BUNDLE), str(tmp_path / "toy"))
    bundle = load_bundle(folder)
    (bundle.folder / f"{part.value}.onnx").write_bytes(b"another")
    stage = Stage.BACKBONE if part is BottleneckPart.ENCODER else Stage.TRANSFORMER
    with pytest.raises(ConfigurationError, match=f"{part.value}.onnx has sha256"):
        load_stage_engine(stage, settings_of(folder), bundle)
