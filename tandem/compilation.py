"""Compiles a bundle's halves for this machine's GPU, ahead of the stages that will run them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bundle import Bundle
from common.domain.placement import Stage
from common.engines.base import Device, LoadOptions, PlanReport, Precision
from common.engines.registry import engine_module
from services.pipeline.shapes import compile_options

ENGINE = "tensorrt"


@dataclass(frozen=True)
class BuiltHalf:
    """One half, compiled and loaded once."""

    stage: Stage
    engine: str
    plan: PlanReport


def build_half(bundle: Bundle, stage: Stage, precision: Precision, cache: Path | None) -> BuiltHalf:
    """Compile one half, unless the cache has it, and see that it can be loaded.

    Args:
        bundle: with the half.
        stage: which.
        precision: to compute in.
        cache: for the plans; None: the user's own.

    Raises:
        ConfigurationError: the bundle is damaged, or TensorRT or pycuda is not installed.
        EngineError: there is no GPU, or TensorRT cannot compile the half.
    """
    # Imported by name, since most machines have neither TensorRT nor pycuda.
    tensorrt: Any = engine_module(ENGINE)
    compilation = compile_options(bundle.manifest, stage, precision, cache)
    options = LoadOptions(0, Device.CUDA, compilation)
    with closing(tensorrt.load(bundle.onnx_path(stage), options)) as engine:
        return BuiltHalf(stage, engine.description, engine.plan)
