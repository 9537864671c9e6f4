"""The engines: torch on the GPU, ONNX Runtime and TensorRT, each against torch on the CPU."""

from __future__ import annotations

import copy
import importlib.util
import statistics
import time
from pathlib import Path
from typing import Any

from scripts.gpu.machine import DEMO, Options, skip, tell, without_gpu


def engines(options: Options) -> None:
    """Compare both halves in torch on the GPU with the CPU, and time them."""
    if without_gpu(options):
        return
    from common.bundle import load_bundle, require_detr

    demo = require_detr(load_bundle(DEMO).manifest, "this check")
    cases = [("demo-r50", demo.architecture, _size(demo.input))]
    if not options.quick:
        cases.append(("r50", full_size(), (800, 1066)))
    precisions = ("fp32",) if options.device == "cpu" else ("fp32", "tf32", "bf16")
    for name, architecture, size in cases:
        halves = _demo_halves() if name == "demo-r50" else random_halves(architecture)
        for batch in (1,) if options.quick else (1, 8):
            inputs = _inputs(architecture, size, batch)
            reference, cpu_ms = _timed_run(halves, inputs, "cpu", "fp32", runs=3)
            found: dict[str, Any] = {"cpu_milliseconds": cpu_ms}
            for precision in precisions:
                outputs, ms = _timed_run(
                    halves, inputs, options.device, precision, runs=2 if options.quick else 20
                )
                found[precision] = {
                    "milliseconds": ms,
                    "largest_difference": _differences(outputs, reference),
                }
            tell(**{f"{name}_batch_{batch}": found})


def onnxruntime(options: Options) -> None:
    """Run both halves of the demo model by ONNX Runtime's CUDA provider."""
    if importlib.util.find_spec("onnxruntime") is None:
        return skip("onnxruntime is not installed")
    import onnxruntime as runtime

    from common.bundle import load_bundle, require_detr
    from common.domain.placement import Stage

    available = runtime.get_available_providers()
    tell(version=runtime.__version__, providers=available)
    if "CUDAExecutionProvider" not in available:
        return skip("this onnxruntime has no CUDA provider; onnxruntime-gpu has")
    bundle = load_bundle(DEMO)
    manifest = require_detr(bundle.manifest, "this check")
    inputs = _inputs(manifest.architecture, _size(manifest.input), 1)
    for stage in Stage:
        results: dict[str, Any] = {}
        for provider in ("CPUExecutionProvider", "CUDAExecutionProvider"):
            session = runtime.InferenceSession(
                str(bundle.onnx_path(stage)), providers=[provider, "CPUExecutionProvider"]
            )
            names = [each.name for each in session.get_inputs()]
            feeds = {name: inputs[name] for name in names}
            outputs = dict(
                zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True)
            )
            started = time.perf_counter()
            for _ in range(20):
                session.run(None, feeds)
            results[provider] = (outputs, (time.perf_counter() - started) / 20 * 1e3)
        (reference, cpu_ms), (outputs, cuda_ms) = results.values()
        difference = _differences(outputs, reference)
        tell(**{stage.value: {"cpu": cpu_ms, "cuda": cuda_ms, "difference": difference}})
    return None


def tensorrt(options: Options) -> None:
    """Compile the demo model by TensorRT, if it and pycuda are at hand."""
    missing = [name for name in ("tensorrt", "pycuda") if importlib.util.find_spec(name) is None]
    if missing:
        return skip(f"{' and '.join(missing)} cannot be imported here, and nothing is installed")
    from common.bundle import load_bundle, require_detr
    from common.domain.placement import Stage
    from common.engines.base import CompileOptions, Precision, ShapeRange
    from common.engines.registry import load_engine

    bundle = load_bundle(DEMO)
    manifest = require_detr(bundle.manifest, "this check")
    inputs = _inputs(manifest.architecture, _size(manifest.input), 1)
    halves = _demo_halves()
    reference, _ = _timed_run(halves, inputs, "cpu", "fp32", runs=1)
    names = {Stage.BACKBONE: ("pixels",), Stage.TRANSFORMER: ("features", "pos", "mask")}
    for stage in Stage:
        shapes = {name: ShapeRange(*(inputs[name].shape,) * 3) for name in names[stage]}
        compiling = CompileOptions(shapes, Precision.FP16, Path(options.folder) / "plans")
        engine = load_engine("tensorrt", bundle.onnx_path(stage), 0, compiling)
        outputs = engine.run({name: inputs[name] for name in names[stage]})
        tell(**{stage.value: _differences(outputs, {n: reference[n] for n in outputs})})
        engine.close()
    return None


def full_size() -> Any:
    """Return the architecture of the paper's R50."""
    from common.bundle import Architecture

    return Architecture(
        backbone="resnet50",
        base_width=64,
        dilation=False,
        encoder_layers=6,
        decoder_layers=6,
        hidden_dim=256,
        heads=8,
        feedforward_dim=2048,
        queries=100,
        classes=91,
    )


def random_halves(architecture: Any) -> dict[Any, Any]:
    """Return both halves of a model with random weights, by stage."""
    import torch

    from common.domain.placement import Stage
    from detr.export.halves import BackboneHalf, TransformerHalf
    from detr.model import DETR
    from detr.model.resnet import Bottleneck

    torch.manual_seed(0)
    model = DETR(architecture)
    # Blocks that start as shortcuts, or activations would double from block to block.
    for module in model.backbone.modules():
        if isinstance(module, Bottleneck):
            module.bn3.weight.fill_(0.1)  # type: ignore[operator]
    return {
        Stage.BACKBONE: BackboneHalf(copy.deepcopy(model), "projected").eval(),
        Stage.TRANSFORMER: TransformerHalf(copy.deepcopy(model), "projected").eval(),
    }


def _size(policy: Any) -> tuple[int, int]:
    return policy.height, policy.width


def _demo_halves() -> dict[Any, Any]:
    """The shipped model's, by the way that the torch engine loads them."""
    from common.bundle import load_bundle
    from common.domain.placement import Stage
    from detr.engine import load_half

    bundle = load_bundle(DEMO)
    return {stage: load_half(bundle.onnx_path(stage), 0, "cpu").half for stage in Stage}


def _inputs(architecture: Any, size: tuple[int, int], batch: int) -> dict[str, Any]:
    import numpy as np

    from common.domain.frames import FrameGeometry
    from common.vision.position import transformer_inputs

    rng = np.random.default_rng(0)
    height, width = size
    grid = (-(-height // architecture.stride), -(-width // architecture.stride))
    geometry = FrameGeometry(
        frame_height=height,
        frame_width=width,
        input_height=height,
        input_width=width,
        valid_height=height,
        valid_width=width,
    )
    pos, mask = transformer_inputs(geometry, grid, architecture.hidden_dim)
    return {
        "pixels": rng.standard_normal((batch, 3, height, width), np.float32),
        "features": rng.standard_normal((batch, architecture.hidden_dim, *grid), np.float32),
        "pos": np.repeat(pos, batch, axis=0),
        "mask": np.repeat(mask, batch, axis=0),
    }


def _timed_run(
    halves: dict[Any, Any], inputs: Any, device: Any, precision: Any, *, runs: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Outputs of both halves, and the median milliseconds of one execution with its copies."""
    from detr.engine import TorchEngine

    outputs: dict[str, Any] = {}
    milliseconds: dict[str, float] = {}
    for stage, half in halves.items():
        engine = TorchEngine(copy.deepcopy(half), stage, device, precision)
        for _ in range(1 if device == "cpu" else 5):
            outputs |= engine.run(inputs)
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            engine.run(inputs)
            times.append(time.perf_counter() - started)
        milliseconds[stage.value] = round(statistics.median(times) * 1e3, 3)
        engine.close()
    return outputs, milliseconds


def _differences(outputs: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """The largest difference of each output, as a share of its largest value."""
    import numpy as np

    return {
        name: float(np.abs(outputs[name] - value).max() / np.abs(value).max())
        for name, value in reference.items()
    }
