"""What an engine is: named tensors in, named tensors out; and how one is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Dict, FrozenSet, Mapping, Optional, Protocol, Tuple

import numpy as np


class Device(Enum):
    """Where an engine computes, and for ONNX Runtime by which execution provider."""

    AUTO = "auto"
    """The best of the engine's devices that works on this machine, at worst the CPU."""
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
    """The shapes that one input may have: each dimension is between `min` and `max`.

    Attributes:
        min: the smallest size of each dimension.
        opt: the usual shape, for which kernels are chosen.
        max: the largest size of each dimension, for which memory is planned.
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
    """What an engine that compiles a model for its device has to know beforehand.

    Attributes:
        shapes: the shapes that each input may have, by the input's name.
        precision: the precision to compute in.
        cache: the folder for what was compiled, which is made if it is missing.
    """

    shapes: Mapping[str, ShapeRange]
    precision: Precision
    cache: Path


@dataclass(frozen=True)
class PlanReport:
    """How an engine came by the plan that it compiled, or had compiled before.

    Attributes:
        path: where the plan is in the cache.
        size_bytes: the size of the plan.
        was_cached: False if the plan was built just now.
        seconds: the time to find or build the plan, and to load it.
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
        """Release what the engine holds. It must not be run afterwards."""
        ...


@dataclass(frozen=True)
class LoadOptions:
    """How an engine is to run a half.

    Attributes:
        threads: the number of CPU threads of one execution; 0 lets the engine choose. It means
            nothing to an engine that does not compute on the CPU.
        device: where to compute: one of the engine module's `DEVICES`, or AUTO if it has several.
        compilation: what an engine that compiles has to know; the others may do without.
        sha256: of the file's content that was checked; the engine has to refuse any other
            (`common.engines.reading`). None: nobody checked it.
    """

    threads: int
    device: Device
    compilation: Optional[CompileOptions] = None
    sha256: Optional[str] = None


class EngineModule(Protocol):
    """What the module of an engine has to hold, for `common.engines.registry` to load it.

    Attributes:
        DEVICES: where the engine can compute. The first is used if none is asked for.
        HALF_PRECISION_DEVICES: those of them that can compute in `Precision.FP16`.
    """

    DEVICES: Tuple[Device, ...]
    HALF_PRECISION_DEVICES: FrozenSet[Device]

    def load(self, onnx_path: Path, options: LoadOptions) -> Engine:
        """Make an engine from an ONNX file. One that compiles takes minutes the first time.

        Args:
            onnx_path: the half to run.
            options: how to run it. The registry has checked device and precision.

        Raises:
            ConfigurationError: what the device needs is not installed.
            EngineError: the file cannot be compiled or loaded, or the device does not work.
        """
        ...
