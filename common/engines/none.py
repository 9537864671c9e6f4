"""An engine that computes nothing: it answers at once, with arbitrary numbers in the right shapes.

A paced one (`common.engines.paced`) imitates a device of known speed on a machine that is too slow
to run the model itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, FrozenSet, Mapping, Tuple

import numpy as np
import onnxruntime

from common.domain.errors import EngineError
from common.engines.base import Device, Engine, LoadOptions
from common.engines.onnxruntime import load_error
from common.engines.reading import model_bytes

DEVICES = (Device.CPU,)
HALF_PRECISION_DEVICES: FrozenSet[Device] = frozenset()

_SEED = 20200526

Shapes = Dict[str, Tuple[int, ...]]


class NoEngine:
    """Answers every input of a shape with the same seeded normal numbers."""

    def __init__(
        self, name: str, content: bytes, declared: Mapping[str, Tuple[object, ...]]
    ) -> None:
        """Answer for a graph.

        Args:
            name: of its file.
            content: of that file.
            declared: the shapes of its inputs, as it declares them.
        """
        self._name = name
        self._content = content
        self._declared = declared
        self._outputs: Dict[Tuple[Tuple[int, ...], ...], Dict[str, np.ndarray]] = {}

    @property
    def description(self) -> str:
        """Says that nothing is computed."""
        return "none, simulated: arbitrary numbers"

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Return arrays of the outputs' shapes; see `common.engines.base.Engine.run`."""
        try:
            key = tuple(inputs[name].shape for name in self._declared)
            if key not in self._outputs:
                self._outputs[key] = self._make({n: a.shape for n, a in inputs.items()})
        # ONNX Runtime's exceptions share no public base class.
        except Exception as error:
            raise EngineError(f"the inputs do not fit {self._name}: {error}") from error
        return {name: array.copy() for name, array in self._outputs[key].items()}

    def close(self) -> None:
        """Forget the arrays."""
        self._outputs.clear()

    def _make(self, shapes: Mapping[str, Tuple[int, ...]]) -> Dict[str, np.ndarray]:
        random = np.random.default_rng(_SEED)
        return {
            name: random.standard_normal(shape, dtype=np.float32)
            for name, shape in self._output_shapes(shapes).items()
        }

    def _output_shapes(self, shapes: Mapping[str, Tuple[int, ...]]) -> Shapes:
        """Infer the shapes of the outputs if the graph's symbolic sizes are those of the inputs."""
        sizes: Dict[str, int] = {}
        for name, declared in self._declared.items():
            for symbol, size in zip(declared, shapes[name]):
                if isinstance(symbol, str):
                    sizes[symbol] = size
        session = _session(self._content, sizes)
        return {output.name: tuple(output.shape) for output in session.get_outputs()}


def load(onnx_path: Path, options: LoadOptions) -> Engine:
    """Read a graph's inputs; see `common.engines.base.EngineModule.load`."""
    content = model_bytes(onnx_path, options.sha256, "onnxruntime")
    try:
        session = _session(content, {})
    except Exception as error:
        raise load_error(error, onnx_path) from error
    declared = {each.name: tuple(each.shape) for each in session.get_inputs()}
    return NoEngine(onnx_path.name, content, declared)


def _session(content: bytes, sizes: Mapping[str, int]) -> onnxruntime.InferenceSession:
    """Open a session that is asked for shapes and never run."""
    options = onnxruntime.SessionOptions()
    # The basic optimisations put in the sizes that are given below.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for symbol, size in sizes.items():
        options.add_free_dimension_override_by_name(symbol, size)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
