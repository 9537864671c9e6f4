"""Where ONNX Runtime computes: devices asked for, refused, and the tensors bound in their memory.

This machine has ONNX Runtime's CPU provider only. What runs on another is run here in the CPU's
memory, by the same code; the options for the others are compared with what ONNX Runtime documents.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from typing_extensions import get_args

from common.bundle import load_bundle
from common.domain.errors import ConfigurationError, EngineError
from common.domain.placement import Stage
from common.engines.base import Device, LoadOptions, Precision
from common.engines.onnxruntime import BoundOnnxRuntimeEngine, open_session, require_used
from common.engines.onnxruntime_providers import PROVIDERS, Choice, choices, tensorrt_cache
from common.engines.registry import load_engine
from services.pipeline.settings import StageSettings
from services.pipeline.shapes import compile_options
from tests.unit.engines.test_engines import inputs

BUNDLE = load_bundle(Path(__file__).parents[3] / "tests" / "data" / "demo-r18")
CPU = (PROVIDERS[Device.CPU], {})


def onnx(stage: Stage) -> Path:
    return BUNDLE.onnx_path(stage)


def options(
    device: Device, precision: Precision = Precision.FP32, cache: Path = Path("/cache")
) -> LoadOptions:
    compilation = compile_options(BUNDLE.manifest, Stage.TRANSFORMER, precision, cache)
    return LoadOptions(0, device, compilation)


def bound(stage: Stage) -> BoundOnnxRuntimeEngine:
    """The engine for a GPU, in the CPU's memory."""
    return BoundOnnxRuntimeEngine(
        open_session(onnx(stage), 1, Choice("cpu", Device.CPU, (CPU,))), "cpu", memory="cpu"
    )


def lacking(device: Device) -> Device:
    if PROVIDERS[device] in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {PROVIDERS[device]}")
    return device


def test_the_setting_offers_every_device() -> None:
    offered = get_args(get_args(StageSettings.model_fields["device"].annotation)[0])
    assert set(offered) == {device.value for device in Device}


@pytest.mark.parametrize(
    ("device", "package"),
    [
        (Device.CUDA, r"'tandem-detr\[gpu\]'"),
        (Device.TENSORRT, r"'tandem-detr\[gpu\]'"),
        (Device.OPENVINO, "onnxruntime-openvino"),
    ],
)
def test_a_device_that_is_not_installed_is_refused_with_what_to_install(
    device: Device, package: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"has no {PROVIDERS[device]}.*{package}$"):
        load_engine("onnxruntime", onnx(Stage.BACKBONE), 1, device=lacking(device))


def test_an_engine_refuses_devices_that_it_does_not_know() -> None:
    with pytest.raises(ConfigurationError, match="'none' does not compute on cuda; .*: cpu"):
        load_engine("none", onnx(Stage.BACKBONE), 1, device=Device.CUDA)


def test_half_precision_is_for_devices_that_compile() -> None:
    half = options(Device.CUDA, Precision.FP16).compilation
    with pytest.raises(ConfigurationError, match="'onnxruntime' computes in fp32 only on cuda"):
        load_engine("onnxruntime", onnx(Stage.TRANSFORMER), 1, half, Device.CUDA)
    # TensorRT takes it, and then is not installed.
    with pytest.raises(ConfigurationError, match="TensorrtExecutionProvider"):
        load_engine("onnxruntime", onnx(Stage.TRANSFORMER), 1, half, lacking(Device.TENSORRT))


def test_auto_takes_what_is_there() -> None:
    for device in (Device.CUDA, Device.OPENVINO):
        lacking(device)
    engine = load_engine("onnxruntime", onnx(Stage.BACKBONE), 1, device=Device.AUTO)
    assert engine.description == f"onnxruntime {onnxruntime.__version__} cpu"
    assert "none" in load_engine("none", onnx(Stage.BACKBONE), 1, device=Device.AUTO).description


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_onnxruntime_drops_is_an_error() -> None:
    """It goes on with the CPU, as it also does where a driver or a library is missing."""
    asked = Choice("cuda", Device.CUDA, ((PROVIDERS[lacking(Device.CUDA)], {}),))
    with pytest.raises(EngineError, match=r"cannot use CUDA.* with CPUExecutionProvider alone"):
        open_session(onnx(Stage.BACKBONE), 1, asked)


@pytest.mark.parametrize("stage", list(Stage))
def test_bound_tensors_give_the_same_results(stage: Stage) -> None:
    plain, engine = load_engine("onnxruntime", onnx(stage), 1), bound(stage)
    for size in ((1, 320, 320), (2, 96, 128), (1, 160, 224)):
        given = inputs(stage, *size)
        expected, outputs = plain.run(given), engine.run(given)
        assert outputs.keys() == expected.keys()
        for name, array in outputs.items():
            np.testing.assert_array_equal(array, expected[name])
    engine.close()


def test_bound_outputs_belong_to_the_caller() -> None:
    engine = bound(Stage.BACKBONE)
    first = engine.run(inputs(Stage.BACKBONE))["features"]
    kept = first.copy()
    engine.run({"pixels": np.zeros((1, 3, 160, 224), np.float32)})
    np.testing.assert_array_equal(first, kept)


def test_only_an_array_that_cannot_change_is_not_uploaded_again() -> None:
    plain, engine = load_engine("onnxruntime", onnx(Stage.TRANSFORMER), 1), bound(Stage.TRANSFORMER)
    given = {name: array.copy() for name, array in inputs(Stage.TRANSFORMER).items()}
    engine.run(given)
    # In place, as a caller may that reuses its arrays.
    given["features"] *= 2
    given["mask"][:] = 0
    np.testing.assert_array_equal(engine.run(given)["logits"], plain.run(given)["logits"])
    fixed = inputs(Stage.TRANSFORMER)
    engine.run(fixed)
    before = engine._uploaded["pos"].value
    other = {**fixed, "features": fixed["features"] + 1}
    np.testing.assert_array_equal(engine.run(other)["logits"], plain.run(other)["logits"])
    assert engine._uploaded["pos"].value is before


def test_bad_inputs_of_bound_engines_are_engine_errors() -> None:
    engine = bound(Stage.TRANSFORMER)
    good = inputs(Stage.TRANSFORMER)
    expected = engine.run(good)
    with pytest.raises(EngineError, match="onnxruntime takes"):
        engine.run({name: good[name] for name in ("features", "pos")})
    with pytest.raises(EngineError, match="onnxruntime failed"):
        engine.run({**good, "pos": np.zeros((1, 128, 5, 8), np.float32)})
    np.testing.assert_array_equal(engine.run(good)["boxes"], expected["boxes"])


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_given_nothing_to_do_is_an_error() -> None:
    """As OpenVINO's, which leaves a graph that it does not take to the CPU's."""
    idle = Choice("openvino", Device.OPENVINO, ())
    with pytest.raises(EngineError, match="fallback to CPU EP has been explicitly disabled"):
        open_session(onnx(Stage.BACKBONE), 1, idle)


def test_a_session_that_leaves_all_to_the_cpu_is_an_error() -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(
        str(onnx(Stage.TRANSFORMER)), options, providers=[CPU[0]]
    )
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip("this onnxruntime does not tell")
    with pytest.raises(EngineError, match="whole graph to the CPU, not to device cuda"):
        require_used(session, "cuda")


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime that was built with every provider; nothing of it is run."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))


@pytest.mark.usefixtures("all_installed")
def test_auto_prefers_gpus_and_never_takes_tensorrt() -> None:
    chosen = choices(onnx(Stage.BACKBONE), LoadOptions(0, Device.AUTO))
    assert [choice.name for choice in chosen] == ["cuda", "openvino gpu", "openvino cpu", "cpu"]


@pytest.mark.usefixtures("all_installed")
def test_cuda_tries_every_algorithm_only_for_one_shape() -> None:
    path = onnx(Stage.TRANSFORMER)
    [choice] = choices(path, options(Device.CUDA))
    [(name, fixed)] = choice.providers
    assert name == "CUDAExecutionProvider"
    assert fixed["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    [choice] = choices(path, LoadOptions(0, Device.CUDA))
    unknown = choice.providers[0][1]
    assert unknown["cudnn_conv_algo_search"] == "HEURISTIC"
    assert unknown["use_tf32"] == "0"


@pytest.mark.usefixtures("all_installed")
def test_tensorrt_is_told_shapes_precision_and_a_cache_of_its_own(tmp_path: Path) -> None:
    path = onnx(Stage.TRANSFORMER)
    [choice] = choices(path, options(Device.TENSORRT, Precision.FP16, tmp_path))
    assert choice.name == "tensorrt fp16"
    assert [name for name, _ in choice.providers] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
    ]
    given = choice.providers[0][1]
    assert given["trt_fp16_enable"] is True
    assert given["trt_profile_opt_shapes"] == "features:1x128x10x10,pos:1x128x10x10,mask:1x10x10"
    assert Path(given["trt_engine_cache_path"]).parent == tmp_path / "onnxruntime"
    assert Path(given["trt_engine_cache_path"]).is_dir()
    with pytest.raises(ConfigurationError, match="has to be told the shapes"):
        choices(path, LoadOptions(0, Device.TENSORRT))


@pytest.mark.usefixtures("all_installed")
def test_tensorrt_works_without_a_cache_where_none_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    given = options(Device.TENSORRT, Precision.FP32, cache=tmp_path / "file")
    [choice] = choices(onnx(Stage.TRANSFORMER), given)
    assert choice.providers[0][1]["trt_engine_cache_enable"] is False


def test_whatever_changes_a_compiled_half_changes_its_cache(tmp_path: Path) -> None:
    compilation = compile_options(BUNDLE.manifest, Stage.TRANSFORMER, Precision.FP32, tmp_path)
    other_weights = tmp_path / "transformer.onnx"
    other_weights.write_bytes(onnx(Stage.TRANSFORMER).read_bytes() + b"\0")
    mask = compilation.shapes["mask"]
    wider = {**compilation.shapes, "mask": replace(mask, max=(2, *mask.max[1:]))}
    folders = {
        tensorrt_cache(onnx(Stage.TRANSFORMER), compilation),
        tensorrt_cache(other_weights, compilation),
        tensorrt_cache(onnx(Stage.TRANSFORMER), replace(compilation, precision=Precision.FP16)),
        tensorrt_cache(onnx(Stage.TRANSFORMER), replace(compilation, shapes=wider)),
    }
    assert len(folders) == 4
    assert tensorrt_cache(onnx(Stage.TRANSFORMER), compilation) in folders
