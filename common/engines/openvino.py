"""OpenVINO on the CPU: an optional engine, about twice as fast where the CPU computes in bf16."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, FrozenSet, Mapping, Optional

import numpy as np
import openvino

from common.domain.errors import EngineError
from common.engines.base import Device, Engine, LoadOptions
from common.engines.reading import model_bytes
from common.engines.refusals import openvino_refusal

DEVICES = (Device.CPU,)
HALF_PRECISION_DEVICES: FrozenSet[Device] = frozenset()


class OpenVinoEngine:
    """A compiled OpenVINO model; see `common.engines.base.Engine`."""

    def __init__(
        self, onnx_path: Path, options: Mapping[str, Any], sha256: Optional[str] = None
    ) -> None:
        """Compile a half with OpenVINO's options; `sha256` as in `LoadOptions`."""
        self._onnx_path = onnx_path
        self._sha256 = sha256
        self._options = dict(options)
        self._compile()

    def _compile(self) -> None:
        core = openvino.Core()
        content = model_bytes(self._onnx_path, self._sha256, "openvino")
        # Without weights: those of an ONNX file are in it.
        model = core.read_model(content, b"")
        # Compiling joins a port with what only passes its values on, and then `get_any_name` may
        # give the name of that.
        names, self._output_names = (
            [port.get_any_name() for port in ports] for ports in (model.inputs, model.outputs)
        )
        compiled = core.compile_model(model, "CPU", self._options)
        self._shapes = {
            name: port.get_partial_shape() for name, port in zip(names, compiled.inputs)
        }
        self._request = compiled.create_infer_request()

    @property
    def description(self) -> str:
        """Name, version and device."""
        return f"openvino {openvino.__version__} cpu"

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        self._check(inputs)
        try:
            # Not `infer`: with one thread it loses errors and leaves the last outputs in place
            # (2026.4).
            self._request.start_async(dict(inputs))
            self._request.wait()
            # Copies, because the request writes its next results to the same memory.
            return {
                name: np.array(self._request.get_tensor(name).data, dtype=np.float32)
                for name in self._output_names
            }
        # OpenVINO raises plain RuntimeError and, for bad inputs, others.
        except Exception as error:
            # After a failed execution the compiled model fails every time.
            self._compile()
            raise EngineError(f"openvino failed: {error}") from error

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Refuse inputs that OpenVINO would take: where one is missing, it runs on old memory."""
        if inputs.keys() != self._shapes.keys():
            raise EngineError(f"openvino takes {sorted(self._shapes)}, got {sorted(inputs)}")
        for name, shape in self._shapes.items():
            actual = inputs[name].shape
            if not shape.compatible(openvino.PartialShape(list(actual))):
                raise EngineError(f"openvino takes {name} of shape {shape}, got {actual}")

    def close(self) -> None:
        """Release the compiled model."""
        del self._request


def load(onnx_path: Path, options: LoadOptions) -> Engine:
    """Load a half; see `common.engines.base.EngineModule.load`.

    OpenVINO chooses the precision itself: bf16 on a CPU with AMX or AVX512-BF16 instructions, which
    is what makes it fast there and costs some exactness; fp32 elsewhere, where it agrees with the
    other engines to 1e-5.
    """
    properties: Dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if options.threads > 0:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    try:
        return OpenVinoEngine(onnx_path, properties, options.sha256)
    except EngineError:
        raise
    except Exception as error:
        engine = f"openvino {openvino.__version__.partition('-')[0]}"
        refusal = openvino_refusal(str(error), engine, onnx_path.name)
        raise refusal or EngineError(f"openvino cannot load {onnx_path}: {error}") from error
