"""The engine Protocol: named tensors in, named tensors out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Dict, Mapping, Protocol, Tuple

import numpy as np


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


class EngineLoader(Protocol):
    """Makes an engine from an ONNX file; each engine module has one, named in the registry."""

    def __call__(self, onnx_path: Path, threads: int) -> Engine:
        """Load.

        Args:
            onnx_path: the half to run.
            threads: CPU threads within one execution; 0 lets the engine choose.

        Raises:
            EngineError: the file cannot be loaded.
        """
        ...


class CompilingLoader(Protocol):
    """The loader of an engine that compiles ahead, which takes minutes the first time."""

    def __call__(self, onnx_path: Path, options: CompileOptions) -> Engine:
        """Load, from the cache if what is asked for was compiled before.

        Args:
            onnx_path: the half to run.
            options: for what to compile it.

        Raises:
            EngineError: the file cannot be compiled or loaded.
        """
        ...
