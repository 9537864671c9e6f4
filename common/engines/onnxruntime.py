"""ONNX Runtime: the default engine, on the CPU or through another of its execution providers."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, Mapping, NamedTuple, Optional, Union

import numpy as np
import onnxruntime
import structlog

from common.domain.errors import EngineError
from common.engines.base import Device, Engine, LoadOptions
from common.engines.onnxruntime_providers import PROVIDERS, Choice, choices, load_libraries
from common.engines.reading import file_in_memory, model_bytes
from common.engines.refusals import onnxruntime_refusal

DEVICES = (Device.CPU, Device.CUDA, Device.TENSORRT, Device.OPENVINO)
HALF_PRECISION_DEVICES: FrozenSet[Device] = frozenset({Device.TENSORRT})

_log = structlog.get_logger()

_READ_AS_FILE = (Device.CPU, Device.CUDA)
_IN_MEMORY = re.compile(r"/proc/self/fd/\d+")


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
    *better, last = choices(onnx_path, options)
    for choice in better:
        try:
            return _load(choice, onnx_path, options)
        except EngineError as error:
            _log.warning("device not usable", device=choice.name, reason=str(error))
    return _load(last, onnx_path, options)


def _load(choice: Choice, onnx_path: Path, options: LoadOptions) -> Engine:
    load_libraries(choice)
    session = open_session(onnx_path, options.threads, choice, options.sha256)
    engine = BoundOnnxRuntimeEngine if choice.is_on_nvidia_gpu else OnnxRuntimeEngine
    return engine(session, choice.name)


def open_session(
    onnx_path: Path, threads: int, choice: Choice, sha256: Optional[str] = None
) -> onnxruntime.InferenceSession:
    """Load a graph for exactly the providers of `choice`.

    Raises:
        UnsupportedGraphError: ONNX Runtime lacks an operator of the graph.
        EngineError: the file cannot be loaded or has not this sha256, or ONNX Runtime left out one
            of the providers or gives it nothing to do, either of which it mentions in its log only.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Idle threads that spin would take the cores from the other stage of this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # Its own format, which it would know by four bytes, has not been looked into.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if choice.device is Device.OPENVINO:
        # It takes a graph whole, or leaves it to the CPU's provider without a word.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if choice.device is not Device.CPU:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = list(choice.providers)
    try:
        with _source(onnx_path, sha256, choice) as source:
            session = onnxruntime.InferenceSession(
                source, options, providers=providers, enable_fallback=0
            )
    except EngineError:
        raise
    except Exception as error:
        raise load_error(error, onnx_path) from error
    # Releases before 1.20 do not know the argument.
    session.disable_fallback()
    loaded = session.get_providers()
    missing = [name for name, _ in providers if name not in loaded]
    if missing:
        raise EngineError(
            f"onnxruntime cannot use {', '.join(missing)}, and would compute on device "
            f"{choice.name} with {', '.join(loaded)} alone; its log says which library, driver or "
            "hardware is missing"
        )
    if choice.device is not Device.CPU:
        require_used(session, choice.name)
    return session


@contextmanager
def _source(onnx_path: Path, sha256: Optional[str], choice: Choice) -> Iterator[Union[bytes, str]]:
    """What a session is to be made of: the content that was checked, if possible as a file.

    Of bytes ONNX Runtime makes a session with the GIL held, at about a millisecond for a megabyte,
    in which no frame of another bundle goes on, and it keeps them as long as the session. Since
    some release after 1.19 it reads a file without the GIL.

    Raises:
        EngineError: the file cannot be read, or is not what was checked any more.
    """
    content = model_bytes(onnx_path, sha256, "onnxruntime")
    # The others name what they keep of a model by its file.
    if choice.device not in _READ_AS_FILE or not hasattr(os, "memfd_create"):
        yield content
        return
    with ExitStack() as stack:
        source: Union[bytes, str] = content
        # Where the system forbids it, or lacks the memory, it takes the bytes.
        with suppress(OSError):
            source = stack.enter_context(file_in_memory(content))
        del content
        yield source


def load_error(error: Exception, onnx_path: Path) -> EngineError:
    """What ONNX Runtime says of a graph that it does not load, in the project's words."""
    engine = f"onnxruntime {onnxruntime.__version__}"
    refusal = onnxruntime_refusal(str(error), engine, onnx_path.name)
    words = _IN_MEMORY.sub(onnx_path.name, str(error))
    return refusal or EngineError(f"onnxruntime cannot load {onnx_path}: {words}")


def require_used(session: onnxruntime.InferenceSession, device: str) -> None:
    """Refuse a session that computes on the CPU alone, and warn of one that does in part.

    A provider may be loaded and take no operator of a graph. Releases before 1.24 do not tell.

    Raises:
        EngineError: every operator was left to the CPU.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return
    parts = session.get_provider_graph_assignment_info()
    on_cpu = [part for part in parts if part.ep_name == PROVIDERS[Device.CPU]]
    operators = sorted({node.op_type for part in on_cpu for node in part.get_nodes()})
    if on_cpu and len(on_cpu) == len(parts):
        raise EngineError(f"onnxruntime leaves the whole graph to the CPU, not to device {device}")
    if on_cpu:
        _log.warning("operators left to the CPU", device=device, operators=operators)
