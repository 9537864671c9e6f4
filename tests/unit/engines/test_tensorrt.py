"""The TensorRT engine without a GPU: every call is checked against what each release offers."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

from common.domain.errors import EngineError, UnsupportedGraphError
from common.engines.base import CompileOptions, Device, LoadOptions, Precision, ShapeRange
from tests.unit.engines.graphs import graph_bytes
from tests.unit.engines.recorded import TensorRt

PACKAGE = "common.engines.tensorrt"
MODULES = ("adapters", "build", "engine", "gpu")
X = ShapeRange((1, 1), (1, 4), (1, 8))


@pytest.fixture(params=["8.2", "10.16.1.11"])
def api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[TensorRt]:
    standing_in = TensorRt(request.param)
    pycuda = types.ModuleType("pycuda")
    pycuda.driver = standing_in.gpu.module
    for name, module in (
        ("tensorrt", standing_in.module),
        ("pycuda", pycuda),
        ("pycuda.driver", standing_in.gpu.module),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    for name in MODULES:
        sys.modules.pop(f"{PACKAGE}.{name}", None)
    yield standing_in
    for name in MODULES:
        sys.modules.pop(f"{PACKAGE}.{name}", None)


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    path = tmp_path / "half.onnx"
    path.write_bytes(graph_bytes("Relu"))
    return path


def options(tmp_path: Path, precision: Precision = Precision.FP16) -> CompileOptions:
    return CompileOptions({"x": X}, precision, tmp_path / "cache")


def load(onnx: Path, given: CompileOptions):
    return importlib.import_module(f"{PACKAGE}.engine").load(
        onnx, LoadOptions(0, Device.CUDA, given)
    )


def test_it_builds_runs_and_closes(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    engine = load(onnx, options(tmp_path))
    assert engine.description == f"tensorrt {api.table['release']} NVIDIA Tegra X2 fp16"
    # Shapes grow and shrink: buffers are made anew, and hold more than is asked for.
    for width in (4, 8, 2):
        x = np.arange(width, dtype=np.float32)[None]
        x.setflags(write=False)
        outputs = engine.run({"x": x})
        np.testing.assert_array_equal(outputs["y"], 2 * x)
    assert api.profile == {"x": (X.min, X.opt, X.max)}
    assert len(api.gpu.memory) == 2
    engine.close()
    assert api.gpu.memory == {}
    assert api.gpu.contexts == 0


def test_each_release_is_called_its_own_way(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    engine = load(onnx, options(tmp_path))
    engine.run({"x": np.zeros((1, 4), np.float32)})
    engine.close()
    ways = {
        "8.2": ("IExecutionContext.execute_async_v2", "IBuilderConfig.max_workspace_size="),
        "10.16.1.11": (
            "IExecutionContext.execute_async_v3",
            "IBuilderConfig.set_memory_pool_limit",
        ),
    }
    assert set(ways[api.table["release"]]) <= set(api.calls)


def test_outputs_belong_to_the_caller(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    engine = load(onnx, options(tmp_path))
    first = engine.run({"x": np.ones((1, 4), np.float32)})["y"]
    engine.run({"x": np.zeros((1, 4), np.float32)})
    np.testing.assert_array_equal(first, [[2, 2, 2, 2]])
    engine.close()


def test_fp16_keeps_sensitive_layers_in_fp32(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    load(onnx, options(tmp_path)).close()
    newer = "OBEY_PRECISION_CONSTRAINTS" if api.table["release"] != "8.2" else "STRICT_TYPES"
    assert api.flags == ["no TF32", "FP16", newer]
    assert api.fp32_layers == [0, 1]


def test_fp32_is_fp32(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    load(onnx, options(tmp_path, Precision.FP32)).close()
    assert api.flags == ["no TF32"]
    assert api.fp32_layers == []


def test_a_plan_is_built_once(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    built = load(onnx, options(tmp_path))
    assert not built.plan.was_cached
    assert built.plan.path.stat().st_size == built.plan.size_bytes
    built.close()
    cached = load(onnx, options(tmp_path))
    assert cached.plan.was_cached
    assert cached.plan.path == built.plan.path
    cached.close()
    assert api.builds == 1


def test_another_graph_precision_or_shape_is_another_plan(
    api: TensorRt, onnx: Path, tmp_path: Path
) -> None:
    load(onnx, options(tmp_path)).close()
    load(onnx, options(tmp_path, Precision.FP32)).close()
    wider = CompileOptions(
        {"x": ShapeRange(X.min, X.opt, (1, 9))}, Precision.FP16, tmp_path / "cache"
    )
    load(onnx, wider).close()
    onnx.write_bytes(graph_bytes("Relu", "Relu"))
    load(onnx, options(tmp_path)).close()
    assert api.builds == 4
    # What the first build measured is given to those that follow.
    assert api.timings_given == [b"", b"timed", b"timed", b"timed"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "no facts", "another device"])
def test_a_damaged_plan_is_rebuilt(api: TensorRt, onnx: Path, tmp_path: Path, damage: str) -> None:
    engine = load(onnx, options(tmp_path))
    engine.close()
    path = engine.plan.path
    content = path.read_bytes()
    if damage == "no facts":
        path.with_name(path.name + ".json").unlink()
    elif damage == "another device":
        # With the right sha256, so that it is TensorRT that refuses it.
        cache = importlib.import_module(f"{PACKAGE}.cache")
        cache._write_checked(path, b"plan of another", {})
    else:
        path.write_bytes(content[:-1] if damage == "cut" else b"\0" + content[1:])
    again = load(onnx, options(tmp_path))
    assert not again.plan.was_cached
    again.close()
    assert api.builds == 2
    assert path.read_bytes() == content
    assert sorted(each.suffix for each in path.parent.iterdir()) == sorted(
        [".plan", ".json", ".cache", ".json"]
    )


def test_an_unwritable_cache_costs_only_the_next_build(
    api: TensorRt, onnx: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("not a folder", encoding="utf-8")
    engine = load(onnx, options(tmp_path))
    assert engine.run({"x": np.ones((1, 2), np.float32)})["y"].shape == (1, 2)
    engine.close()


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, r"takes \['x'\], got \[\]"),
        ({"x": np.zeros((1, 9), np.float32)}, r"shape \(1, 1\) to \(1, 8\), got \(1, 9\)"),
        ({"x": np.zeros((1, 4), np.float64)}, "float32, got float64"),
    ],
)
def test_bad_inputs_are_engine_errors(
    api: TensorRt, onnx: Path, tmp_path: Path, inputs: dict, reason: str
) -> None:
    engine = load(onnx, options(tmp_path))
    with pytest.raises(EngineError, match=f"tensorrt takes .*{reason}|tensorrt {reason}"):
        engine.run(inputs)
    engine.run({"x": np.zeros((1, 4), np.float32)})
    engine.close()


def test_without_a_driver(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    api.gpu.failure = api.gpu.module.RuntimeError("cuInit failed: no CUDA-capable device")
    with pytest.raises(EngineError, match="no usable NVIDIA GPU: cuInit failed"):
        load(onnx, options(tmp_path))


def test_an_unsupported_operator_is_named_with_its_node(
    api: TensorRt, onnx: Path, tmp_path: Path
) -> None:
    text = "No importer registered for op: CumSum. Attempting to import as plugin."
    if api.table["release"] == "8.2":
        api.parse_log = ['ModelImporter.cpp:773: While parsing node number 5 [CumSum -> "sum"]:']
    api.parse_errors = [(5, "sum", "CumSum", text)]
    with pytest.raises(UnsupportedGraphError) as raised:
        load(onnx, options(tmp_path))
    assert str(raised.value) == (
        f"engine tensorrt {api.table['release']} has no operator CumSum, which half.onnx needs "
        "(node 5, CumSum to sum): run this half on another engine or node"
    )
    assert api.gpu.contexts == 0


def test_an_operator_that_is_taken_for_a_plugin_is_named(
    api: TensorRt, onnx: Path, tmp_path: Path
) -> None:
    text = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
    if api.table["release"] == "8.2":
        api.parse_log = ['ModelImporter.cpp:773: While parsing node number 5 [Twist -> "out"]:']
    api.parse_errors = [(5, "out", "Twist", text)]
    with pytest.raises(
        UnsupportedGraphError, match=r"no operator Twist, .* \(node 5, Twist to out\)"
    ):
        load(onnx, options(tmp_path))


def test_an_operator_of_later_releases_is_named_before_the_gpu_is_asked(
    api: TensorRt, onnx: Path, tmp_path: Path
) -> None:
    api.gpu.failure = api.gpu.module.RuntimeError("cuInit failed: no CUDA-capable device")
    onnx.write_bytes(graph_bytes("Conv", "GridSample"))
    is_old = api.table["release"] == "8.2"
    expected = "tensorrt 8.2 has no operator GridSample" if is_old else "no usable NVIDIA GPU"
    with pytest.raises(UnsupportedGraphError if is_old else EngineError, match=expected):
        load(onnx, options(tmp_path))


def test_an_opset_that_is_too_new_is_told(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    onnx.write_bytes(graph_bytes("Conv", opsets={"": 16}))
    if api.table["release"] != "8.2":
        load(onnx, options(tmp_path)).close()
        return
    with pytest.raises(UnsupportedGraphError, match="reads ONNX opset 13 at most"):
        load(onnx, options(tmp_path))
    assert api.builds == 0


def test_out_of_memory_while_building(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    api.build_log = ["Requested amount of GPU memory failed: OutOfMemory (no further information)"]
    with pytest.raises(EngineError, match="cannot build: out of memory"):
        load(onnx, options(tmp_path))
    assert api.gpu.contexts == 0


def test_out_of_memory_while_running(
    api: TensorRt, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(onnx, options(tmp_path))

    def fail(size: int) -> None:
        raise api.gpu.module.MemoryError("cuMemAlloc failed: out of memory")

    with monkeypatch.context() as full:
        full.setattr(api.gpu.module, "mem_alloc", fail)
        with pytest.raises(EngineError, match="ran out of GPU memory"):
            engine.run({"x": np.zeros((1, 4), np.float32)})
    engine.run({"x": np.zeros((1, 4), np.float32)})
    engine.close()


def test_shapes_have_to_fit_the_graph(api: TensorRt, onnx: Path, tmp_path: Path) -> None:
    given = CompileOptions({"z": X}, Precision.FP32, tmp_path)
    with pytest.raises(EngineError, match=r"takes \['x'\], shapes are known of \['z'\]"):
        load(onnx, given)
