"""OpenVINO on the CPU: an optional engine, about twice as fast where the CPU computes in bf16."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np
import openvino

from common.domain.errors import EngineError
from common.engines.base import Engine


class OpenVinoEngine:
    """A compiled OpenVINO model; see `common.engines.base.Engine`."""

    def __init__(self, request: Any, output_names: Any) -> None:
        """Wrap an inference request of a compiled model, whose outputs have these names."""
        self._request = request
        self._output_names = output_names

    @property
    def description(self) -> str:
        """Name, version and device."""
        return f"openvino {openvino.__version__} cpu"

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        try:
            self._request.infer(dict(inputs))
            # Copies, because the request writes its next results to the same memory.
            return {
                name: np.array(self._request.get_tensor(name).data, dtype=np.float32)
                for name in self._output_names
            }
        # OpenVINO raises plain RuntimeError and, for bad inputs, others.
        except Exception as error:
            raise EngineError(f"openvino failed: {error}") from error

    def close(self) -> None:
        """Release the compiled model."""
        del self._request


def load(onnx_path: Path, threads: int) -> Engine:
    """Load a half; see `common.engines.base.EngineLoader`.

    OpenVINO chooses the precision itself: bf16 on a CPU with AMX or AVX512-BF16 instructions, which
    is what makes it fast there and costs some exactness; fp32 elsewhere, where it agrees with the
    other engines to 1e-5.
    """
    options: Dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads > 0:
        options["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = openvino.Core().compile_model(str(onnx_path), "CPU", options)
        names = [output.get_any_name() for output in compiled.outputs]
        return OpenVinoEngine(compiled.create_infer_request(), names)
    except Exception as error:
        raise EngineError(f"openvino cannot load {onnx_path}: {error}") from error
