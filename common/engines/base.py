"""The engine Protocol: named tensors in, named tensors out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Dict, FrozenSet, Mapping, Optional, Protocol, Tuple

import numpy as np


class Device(Enum):
    """Where an engine computes: the processor, and for ONNX Runtime the provider that drives it."""

    AUTO = "auto"
    """The first of the engine's devices that works here; ONNX Runtime tries CUDA before the CPU."""
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"


class Precision(Enum):
    """What an engine computes in; its inputs and outputs are float32 in any case."""

    FP32 = "fp32"
    FP16 = "fp16"


@dataclass(frozen=True)
class ShapeRange:
    """The shapes that one input may have: each dimension from `min` to `max`.

    Attributes:
        min: smallest size of each dimension.
        opt: the usual shape, for which kernels are chosen.
        max: largest size of each dimension, for which memory is planned.
    """

    min: Tuple[int, ...]
    opt: Tuple[int, ...]
    max: Tuple[int, ...]

    def contains(self, shape: Tuple[int, ...]) -> bool:
        """Whether an input may have this shape."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max)
        )


@dataclass(frozen=True)
class CompileOptions:
    """What an engine that compiles a model for its device has to know ahead.

    Attributes:
        shapes: of each input, by its name.
        precision: to compute in.
        cache: folder for what was compiled; it is made if it is missing.
    """

    shapes: Mapping[str, ShapeRange]
    precision: Precision
    cache: Path


@dataclass(frozen=True)
class PlanReport:
    """Where what an engine compiled came from.

    Attributes:
        path: of the plan in the cache.
        size_bytes: of the plan.
        was_cached: False if it was built just now.
        seconds: to find or build it, and to load it.
    """

    path: Path
    size_bytes: int
    was_cached: bool
    seconds: float


class Engine(Protocol):
    """One loaded half of a model.

    An engine is loaded, run and closed on one thread, which its owner provides: pycuda's context
    stack belongs to the thread that made it. `run` releases the GIL while it computes.
    """

    @property
    def description(self) -> str:
        """Name, version and device, for logs and `tandem status`."""
        ...

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once.

        Args:
            inputs: float32, C-contiguous, under the names of the ONNX graph's inputs.

        Returns:
            float32 arrays under the names of the graph's outputs; the caller owns them.

        Raises:
            EngineError: execution failed.
        """
        ...

    def close(self) -> None:
        """Release what the engine holds; it is not run afterwards."""
        ...


@dataclass(frozen=True)
class LoadOptions:
    """How an engine is to run a half.

    Attributes:
        threads: CPU threads of one execution; 0 lets the engine choose. An engine that does not
            compute on the CPU has no use for it.
        device: where to compute; one of the engine module's `DEVICES`, or AUTO if it has several.
        compilation: what engines that compile ahead have to know; the others only look at whether
            the shapes vary, if they are told.
    """

    threads: int
    device: Device
    compilation: Optional[CompileOptions] = None


class EngineModule(Protocol):
    """What the module of an engine holds; `common.engines.registry` finds it by the engine's name.

    Attributes:
        DEVICES: where the engine can compute. The first is used if none is asked for.
        HALF_PRECISION_DEVICES: those of them on which `Precision.FP16` can be asked for.
    """

    DEVICES: Tuple[Device, ...]
    HALF_PRECISION_DEVICES: FrozenSet[Device]

    def load(self, onnx_path: Path, options: LoadOptions) -> Engine:
        """Make an engine from an ONNX file; one that compiles takes minutes the first time.

        Args:
            onnx_path: the half to run.
            options: how to run it; checked against `DEVICES` and `HALF_PRECISION_DEVICES` before.

        Raises:
            ConfigurationError: what the device needs is not installed.
            EngineError: the file cannot be compiled or loaded, or the device does not work.
        """
        ...
