"""The engine Protocol: named tensors in, named tensors out."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Mapping, Protocol

import numpy as np


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
