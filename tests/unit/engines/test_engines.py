"""Every CPU engine on both halves: equal to ONNX Runtime, failing as the Protocol says."""

from __future__ import annotations

import importlib.util
import shutil
import tracemalloc
from pathlib import Path
from typing import Dict

import numpy as np
import pytest

from common.bundle import load_bundle
from common.domain.errors import ConfigurationError, EngineError, UnsupportedGraphError
from common.domain.placement import Stage
from common.engines.base import Engine
from common.engines.registry import engine_modules, load_engine

BUNDLE = load_bundle(Path(__file__).parents[3] / "tests" / "data" / "demo-r18")
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "torch": "torch"}


def budget(name: str) -> float:
    """Largest difference from ONNX Runtime in fp32."""
    if name == "openvino":
        import openvino

        # It computes in bf16 where the CPU can. Torch in bf16 is off by 0.18 on these logits.
        if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return 0.4
    return 1e-4


@pytest.fixture(params=sorted(PACKAGES))
def name(request: pytest.FixtureRequest) -> str:
    if importlib.util.find_spec(PACKAGES[request.param]) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def engine(name: str, stage: Stage, threads: int = 1) -> Engine:
    return load_engine(name, BUNDLE.onnx_path(stage), threads)


def inputs(
    stage: Stage, batch: int = 1, height: int = 160, width: int = 224
) -> Dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    if stage is Stage.BACKBONE:
        return {"pixels": random.standard_normal((batch, 3, height, width)).astype(np.float32)}
    grid = (height // 32, width // 32)
    mask = np.zeros((batch, *grid), np.float32)
    mask[:, :, -2:] = -1e4
    arrays = {
        "features": random.standard_normal((batch, 128, *grid)).astype(np.float32),
        "pos": random.standard_normal((1, 128, *grid)).astype(np.float32),
        "mask": mask,
    }
    for array in arrays.values():
        # As the cached encodings are.
        array.setflags(write=False)
    return arrays


def test_the_registry_names_them_all() -> None:
    assert set(PACKAGES) <= set(engine_modules())


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("size", [(1, 320, 320), (1, 160, 224), (2, 96, 128)])
def test_outputs_equal_the_default_engines(name: str, stage: Stage, size: tuple) -> None:
    expected = engine("onnxruntime", stage).run(inputs(stage, *size))
    outputs = engine(name, stage).run(inputs(stage, *size))
    assert outputs.keys() == expected.keys()
    for key, array in outputs.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, expected[key], atol=budget(name), rtol=0)


def test_outputs_belong_to_the_caller(name: str) -> None:
    loaded = engine(name, Stage.BACKBONE)
    first = loaded.run(inputs(Stage.BACKBONE))["features"]
    kept = first.copy()
    loaded.run({"pixels": np.zeros((1, 3, 160, 224), np.float32)})
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    again = loaded.run(inputs(Stage.BACKBONE))["features"]
    np.testing.assert_array_equal(again, kept)


def test_bad_inputs_are_engine_errors(name: str) -> None:
    loaded = engine(name, Stage.TRANSFORMER)
    good = inputs(Stage.TRANSFORMER)
    # An engine that keeps its input's memory could run on what it was last given.
    loaded.run(good)
    with pytest.raises(EngineError, match=name):
        loaded.run({key: good[key] for key in ("features", "pos")})
    with pytest.raises(EngineError, match=name):
        loaded.run({**good, "features": np.ascontiguousarray(good["features"][:, :5])})
    assert loaded.run(good)["boxes"].shape == (1, 100, 4)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_engine_works_on_after_a_failed_execution(name: str, threads: int) -> None:
    loaded = engine(name, Stage.TRANSFORMER, threads)
    good = inputs(Stage.TRANSFORMER)
    expected = loaded.run(good)
    wider = np.zeros((1, 128, 5, 8), np.float32)
    for _ in range(2):
        with pytest.raises(EngineError, match=name):
            loaded.run({**good, "pos": wider})
        outputs = loaded.run(good)
        for key, array in outputs.items():
            np.testing.assert_allclose(array, expected[key], atol=1e-5)


def test_description_names_the_engine(name: str) -> None:
    loaded = engine(name, Stage.BACKBONE)
    assert loaded.description.startswith(name)
    loaded.close()


def test_unreadable_files_are_engine_errors(name: str, tmp_path: Path) -> None:
    path = tmp_path / "backbone.onnx"
    path.write_bytes(b"this is not a graph")
    with pytest.raises(EngineError, match="cannot load"):
        load_engine(name, path, 1)
    shutil.copy(str(BUNDLE.folder / "bundle.json"), str(tmp_path))
    with pytest.raises(EngineError, match="cannot load"):
        load_engine(name, path, 1)


def test_unknown_engines_are_named() -> None:
    with pytest.raises(ConfigurationError, match="unknown engine 'abacus'; known engines: onnx"):
        load_engine("abacus", BUNDLE.folder / "backbone.onnx", 1)


def test_torch_refuses_a_file_that_is_neither_half(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for name in ("bundle.json", "backbone.onnx"):
        shutil.copy(str(BUNDLE.folder / name), str(tmp_path))
    (tmp_path / "backbone.onnx").rename(tmp_path / "half.onnx")
    with pytest.raises(EngineError, match=r"not backbone\.onnx or transformer\.onnx"):
        load_engine("torch", tmp_path / "half.onnx", 1)


@pytest.mark.parametrize("half", ["backbone", "transformer"])
def test_torch_tells_that_it_can_never_run_another_family(half: str) -> None:
    """So the stage stays, and does not serve; on any other error it would end."""
    pytest.importorskip("torch")
    folder = Path(__file__).parents[3] / "tests" / "data" / "families" / "d_fine"
    sentence = "engine torch .* plain DETRs only, and d_fine is of the family d_fine: run this half"
    with pytest.raises(UnsupportedGraphError, match=sentence):
        load_engine("torch", folder / f"{half}.onnx", 1)


def test_openvino_keeps_the_names_of_inputs_that_a_cast_passes_on(tmp_path: Path) -> None:
    """As in RF-DETR's backbone; compiled, the input has both names."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    sides = ["n", 3]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["a_cast"], to=kind),
            helper.make_node("Exp", ["a_cast"], ["features"]),
        ],
        "half",
        [helper.make_tensor_value_info("pixels", kind, sides)],
        [helper.make_tensor_value_info("features", kind, sides)],
    )
    path = tmp_path / "backbone.onnx"
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=7), str(path))
    loaded = load_engine("openvino", path, 1)
    for _ in range(5):
        outputs = loaded.run({"pixels": np.ones((2, 3), np.float32)})
        np.testing.assert_allclose(outputs["features"], np.e, rtol=1e-2)
    loaded.close()


def test_a_session_is_made_of_no_bytes_of_pythons() -> None:
    """Made of bytes, it would hold up all other threads meanwhile, and keep those bytes."""
    path = BUNDLE.onnx_path(Stage.TRANSFORMER)
    # What is imported for the first one counts as well.
    load_engine("onnxruntime", path, 1).close()
    tracemalloc.start()
    try:
        engine = load_engine("onnxruntime", path, 1)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    engine.close()
    assert kept < path.stat().st_size / 2
