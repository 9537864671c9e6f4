"""ONNX Runtime: the default engine, on the CPU or through another of its execution providers."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, FrozenSet, List, Mapping, NamedTuple

import numpy as np
import onnxruntime
import structlog

from common.domain.errors import EngineError
from common.engines.base import Device, Engine, LoadOptions
from common.engines.onnxruntime_providers import (
    AUTOMATIC,
    Provider,
    is_installed,
    load_libraries,
    providers,
    require_installed,
)

DEVICES = (Device.CPU, Device.CUDA, Device.TENSORRT, Device.OPENVINO)
HALF_PRECISION_DEVICES: FrozenSet[Device] = frozenset({Device.TENSORRT})

_log = structlog.get_logger()


class OnnxRuntimeEngine:
    """A session whose tensors are in the CPU's memory; see `common.engines.base.Engine`."""

    def __init__(self, session: onnxruntime.InferenceSession, device: str) -> None:
        """Wrap a loaded session; `device` is for the description."""
        self._session = session
        self._device = device
        self._output_names = [output.name for output in session.get_outputs()]

    @property
    def description(self) -> str:
        """Name, version and device."""
        return f"onnxruntime {onnxruntime.__version__} {self._device}"

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


class _Uploaded(NamedTuple):
    """An input's copy on the device, and what it is a copy of."""

    source: np.ndarray
    value: onnxruntime.OrtValue


class BoundOnnxRuntimeEngine(OnnxRuntimeEngine):
    """A session whose tensors are bound in the device's memory.

    Each input is copied there once, and each output back once. An input that cannot have changed,
    which is the same read-only array as in the last execution, is not copied again: the
    transformer's positional encoding is one, and is as large as the features.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, device: str, memory: str = "cuda"
    ) -> None:
        """Wrap a loaded session.

        Args:
            session: to run.
            device: for the description.
            memory: ONNX Runtime's name of the memory to bind in.
        """
        super().__init__(session, device)
        self._memory = memory
        self._input_names = {each.name for each in session.get_inputs()}
        self._uploaded: Dict[str, _Uploaded] = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        if inputs.keys() != self._input_names:
            raise EngineError(f"onnxruntime takes {sorted(self._input_names)}, got {list(inputs)}")
        try:
            binding = self._session.io_binding()
            for name, array in inputs.items():
                binding.bind_ortvalue_input(name, self._upload(name, array))
            for name in self._output_names:
                binding.bind_output(name, self._memory)
            self._session.run_with_iobinding(binding)
            outputs = binding.copy_outputs_to_cpu()
        # ONNX Runtime's exceptions share no public base class.
        except Exception as error:
            raise EngineError(f"onnxruntime failed: {error}") from error
        return dict(zip(self._output_names, outputs))

    def close(self) -> None:
        """Release the tensors and the session."""
        self._uploaded.clear()
        super().close()

    def _upload(self, name: str, array: np.ndarray) -> onnxruntime.OrtValue:
        last = self._uploaded.get(name)
        if last is not None and last.source is array and not array.flags.writeable:
            return last.value
        # The source is kept too: its identity must not pass to another array.
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array, self._memory, 0)
        self._uploaded[name] = _Uploaded(array, value)
        return value


def load(onnx_path: Path, options: LoadOptions) -> Engine:
    """Load a half; see `common.engines.base.EngineModule.load`."""
    if options.device is not Device.AUTO:
        return _load_on(options.device, onnx_path, options)
    candidates = [device for device in AUTOMATIC if is_installed(device)]
    for device in candidates[:-1]:
        try:
            return _load_on(device, onnx_path, options)
        except EngineError as error:
            _log.warning("device not usable", device=device.value, reason=str(error))
    return _load_on(candidates[-1], onnx_path, options)


def _load_on(device: Device, onnx_path: Path, options: LoadOptions) -> Engine:
    require_installed(device)
    load_libraries(device)
    try:
        chosen = providers(device, onnx_path, options)
    except OSError as error:
        raise EngineError(f"onnxruntime cannot load {onnx_path}: {error.strerror}") from error
    session = open_session(onnx_path, options.threads, chosen)
    if device in (Device.CPU, Device.OPENVINO):
        return OnnxRuntimeEngine(session, device.value)
    name = device.value
    if device is Device.TENSORRT and options.compilation is not None:
        name = f"{name} {options.compilation.precision.value}"
    return BoundOnnxRuntimeEngine(session, name)


def open_session(
    onnx_path: Path, threads: int, chosen: List[Provider]
) -> onnxruntime.InferenceSession:
    """Load a graph for exactly these providers.

    Raises:
        EngineError: the file cannot be loaded, or ONNX Runtime left out one of the providers,
            which it does with no more than a line in its log.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Idle threads that spin would take the cores from the other stage of this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(onnx_path), options, providers=chosen, enable_fallback=0
        )
    except Exception as error:
        raise EngineError(f"onnxruntime cannot load {onnx_path}: {error}") from error
    # Releases before 1.20 do not know the argument.
    session.disable_fallback()
    asked = [name for name, _ in chosen]
    loaded = session.get_providers()
    missing = [name for name in asked if name not in loaded]
    if missing:
        raise EngineError(
            f"onnxruntime cannot load {onnx_path} for {', '.join(missing)}: it left that out and "
            f"would compute with {', '.join(loaded)}. Its log says which library or driver is "
            "missing"
        )
    return session
