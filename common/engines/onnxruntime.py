"""ONNX Runtime on the CPU: the default engine."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Mapping

import numpy as np
import onnxruntime

from common.domain.errors import EngineError
from common.engines.base import Engine


class OnnxRuntimeEngine:
    """An ONNX Runtime session; see `common.engines.base.Engine`."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        """Wrap a loaded session."""
        self._session = session
        self._output_names = [output.name for output in session.get_outputs()]

    @property
    def description(self) -> str:
        """Name, version and device."""
        return f"onnxruntime {onnxruntime.__version__} cpu"

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        try:
            outputs = self._session.run(self._output_names, dict(inputs))
        # ONNX Runtime's exceptions share no public base class.
        except Exception as error:
            raise EngineError(f"onnxruntime failed: {error}") from error
        return dict(zip(self._output_names, outputs))

    def close(self) -> None:
        """Release the session."""
        del self._session


def load(onnx_path: Path, threads: int) -> Engine:
    """Load a half; see `common.engines.base.EngineLoader`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Idle threads that spin would take the cores from the other stage of this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(onnx_path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise EngineError(f"onnxruntime cannot load {onnx_path}: {error}") from error
    return OnnxRuntimeEngine(session)
