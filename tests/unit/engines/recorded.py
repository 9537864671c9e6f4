"""Stand-ins for `tensorrt` and `pycuda.driver` that have only what a release's table lists.

They compute nothing but 'y is twice x', enough to see data go to the device and back. An attribute
that the release does not have raises AttributeError, as the real one would; a call with a wrong
number of arguments, or a write to what is read-only, fails the test.
"""

from __future__ import annotations

import enum
import json
import types
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

TABLES = Path(__file__).parents[2] / "data" / "tensorrt-api"
PLAN_PREFIX = b"plan of "


def table_of(release: str) -> Dict[str, Any]:
    return json.loads((TABLES / f"{release}.json").read_text(encoding="utf-8"))


class Checked:
    """A behaviour seen through a class of a table."""

    def __init__(self, table: Dict[str, Any], kind: str, behaviour: Any, calls: List[str]) -> None:
        vars(self).update(_table=table, _kind=kind, _behaviour=behaviour, _calls=calls)

    def _entry(self, name: str) -> Any:
        members = self._table["classes"][self._kind]
        if name not in members:
            raise AttributeError(f"{self._kind} of {self._table['release']} has no {name}")
        return members[name]

    def __getattr__(self, name: str) -> Any:
        entry = self._entry(name)
        value = getattr(self._behaviour, name)
        if isinstance(entry, str):
            return value
        return checked_call(f"{self._kind}.{name}", entry, value, self._calls)

    def __setattr__(self, name: str, value: Any) -> None:
        assert self._entry(name) == "writable", f"{self._kind}.{name} is read-only"
        self._calls.append(f"{self._kind}.{name}=")
        setattr(self._behaviour, name, value)


def checked_call(name: str, arity: List[int], function: Any, calls: List[str]) -> Any:
    def call(*arguments: Any) -> Any:
        assert arity[0] <= len(arguments) <= arity[1], f"{name} takes {arity}, got {arguments}"
        calls.append(name)
        return function(*arguments)

    return call


class Gpu:
    """The device's memory, and pycuda's functions on it."""

    def __init__(self, calls: List[str]) -> None:
        self.memory: Dict[int, np.ndarray] = {}
        self.contexts = 0
        self.allocations = 0
        self.failure: Any = None
        self._table = table_of("pycuda")
        self._calls = calls
        self.module = types.ModuleType("pycuda.driver")
        base = type("Error", (Exception,), {})
        for name in self._table["errors"]:
            setattr(self.module, name, base if name == "Error" else type(name, (base,), {}))
        for name, arity in self._table["functions"].items():
            call = checked_call(f"cuda.{name}", arity, getattr(self, name), calls)
            setattr(self.module, name, call)
        self.module.Device = self._class("Device", lambda _: Device(self))
        self.module.Stream = self._class("Stream", Stream)

    def checked(self, kind: str, behaviour: Any) -> Any:
        return Checked(self._table, kind, behaviour, self._calls)

    def _class(self, kind: str, make: Any) -> Any:
        arity = self._table["classes"][kind]["__init__"]
        return checked_call(
            f"cuda.{kind}", arity, lambda *given: self.checked(kind, make(*given)), self._calls
        )

    def init(self) -> None:
        if self.failure is not None:
            raise self.failure

    def pagelocked_empty(self, size: int, dtype: Any) -> np.ndarray:
        return np.full(size, np.nan, dtype)

    def mem_alloc(self, size: int) -> Any:
        allocation = Allocation(self, size)
        self.memory[int(allocation)] = np.zeros(size // 4, np.float32)
        return allocation

    def memcpy_htod_async(self, device: Any, host: np.ndarray, stream: Any) -> None:
        self.memory[int(device)][: host.size] = host

    def memcpy_dtoh_async(self, host: np.ndarray, device: Any, stream: Any) -> None:
        host[:] = self.memory[int(device)][: host.size]


class Device:
    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def name(self) -> str:
        return "NVIDIA Tegra X2"

    def compute_capability(self) -> Tuple[int, int]:
        return (6, 2)

    def retain_primary_context(self) -> Any:
        return self._gpu.checked("Context", Context(self._gpu))


class Context:
    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def push(self) -> None:
        self._gpu.contexts += 1

    def pop(self) -> None:
        self._gpu.contexts -= 1


class Stream:
    handle = 7

    def synchronize(self) -> None:
        pass


class Allocation:
    """DeviceAllocation, whose `int` is its address."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        self._gpu = gpu
        gpu.allocations += 1
        self._address = gpu.allocations << 32

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        del self._gpu.memory[self._address]


class TensorRt:
    """One release: module `tensorrt`, and what a test can make go wrong."""

    def __init__(self, release: str) -> None:
        self.calls: List[str] = []
        self.table = table_of(release)
        self.gpu = Gpu(self.calls)
        self.parse_errors: List[Tuple[int, str, str, str]] = []
        self.parse_log: List[str] = []
        self.build_log: List[str] = []
        self.flags: List[str] = []
        self.fp32_layers: List[int] = []
        self.profile: Dict[str, Any] = {}
        self.builds = 0
        self.timings_given: List[bytes] = []
        self.module = types.ModuleType("tensorrt")
        self.module.__version__ = self.table["release"]
        for name, members in self.table["enums"].items():
            setattr(self.module, name, enum.IntEnum(name, members, start=0))
        self.module.ILogger = _ilogger(self.table)
        for name, make in (("Builder", Builder), ("Runtime", Runtime), ("OnnxParser", Parser)):
            setattr(self.module, name, self._class(name, make))

    def checked(self, kind: str, behaviour: Any) -> Any:
        return Checked(self.table, kind, behaviour, self.calls)

    def _class(self, kind: str, make: Any) -> Any:
        arity = self.table["classes"][kind]["__init__"]
        return checked_call(
            kind, arity, lambda *given: self.checked(kind, make(self, *given)), self.calls
        )


def _ilogger(table: Dict[str, Any]) -> type:
    levels = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
    assert set(levels) <= set(table["classes"]["ILogger"])
    severity = enum.IntEnum("Severity", levels, start=0)
    members = {level: severity[level] for level in levels}
    return type("ILogger", (), {"Severity": severity, **members})


class Builder:
    def __init__(self, api: TensorRt, log: Any) -> None:
        self._api, self._log = api, log

    def create_network(self, flags: int = 0) -> Any:
        assert flags == 1, "explicit batch"
        return self._api.checked("INetworkDefinition", Network(self._api))

    def create_builder_config(self) -> Any:
        return self._api.checked("IBuilderConfig", Config(self._api))

    def create_optimization_profile(self) -> Any:
        return self._api.checked("IOptimizationProfile", Profile(self._api))

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        for message in self._api.build_log:
            self._log.log(self._log.ERROR, message)
        if self._api.build_log:
            return None
        self._api.builds += 1
        return PLAN_PREFIX + self._api.table["release"].encode()


# Like a normalisation of x: what it reduces, the difference, and an activation.
LAYERS = (
    ("REDUCE", ("x",), ("mean",)),
    ("ELEMENTWISE", ("x", "mean"), ("difference",)),
    ("ACTIVATION", ("difference",), ("y",)),
)


class Network:
    num_layers, num_inputs, num_outputs = len(LAYERS), 1, 1

    def __init__(self, api: TensorRt) -> None:
        self._api = api

    def get_input(self, index: int) -> Any:
        return self._tensor(("x",)[index])

    def get_layer(self, index: int) -> Any:
        kind, inputs, outputs = LAYERS[index]
        tensors = [self._tensor(name) for name in (*inputs, *outputs)]
        layer = LayerOf(self._api, index, kind, tensors, len(inputs))
        return self._api.checked("ILayer", layer)

    def _tensor(self, name: str) -> Any:
        dtype = self._api.module.DataType.FLOAT
        tensor = types.SimpleNamespace(name=name, dtype=dtype, is_shape_tensor=False)
        return self._api.checked("ITensor", tensor)


class LayerOf:
    def __init__(self, api: TensorRt, index: int, kind: str, tensors: list, inputs: int) -> None:
        self._api, self._index, self._tensors = api, index, tensors
        self.type = api.module.LayerType[kind]
        self.num_inputs, self.num_outputs = inputs, len(tensors) - inputs

    def get_input(self, index: int) -> Any:
        return self._tensors[index]

    def get_output(self, index: int) -> Any:
        return self._tensors[self.num_inputs + index]

    def set_output_type(self, index: int, dtype: Any) -> None:
        assert self.precision == dtype == self._api.module.DataType.FLOAT
        self._api.fp32_layers.append(self._index)


class Config:
    def __init__(self, api: TensorRt) -> None:
        self._api = api

    def set_flag(self, flag: Any) -> None:
        self._api.flags.append(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._api.flags.append(f"no {flag.name}")

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        assert pool is self._api.module.MemoryPoolType.WORKSPACE
        assert size > 0

    def add_optimization_profile(self, profile: Any) -> int:
        return 0

    def create_timing_cache(self, content: bytes) -> Any:
        self._api.timings_given.append(content)
        return self._api.checked("ITimingCache", types.SimpleNamespace(serialize=lambda: b"timed"))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class Profile:
    def __init__(self, api: TensorRt) -> None:
        self._api = api

    def set_shape(self, name: str, low: Any, usual: Any, high: Any) -> None:
        self._api.profile[name] = (low, usual, high)


class Parser:
    def __init__(self, api: TensorRt, network: Any, log: Any) -> None:
        self._api, self._log = api, log

    @property
    def num_errors(self) -> int:
        return len(self._api.parse_errors)

    def parse(self, content: bytes) -> bool:
        for message in self._api.parse_log:
            self._log.log(self._log.ERROR, message)
        return not self._api.parse_errors

    def get_error(self, index: int) -> Any:
        node, name, operator, text = self._api.parse_errors[index]
        error = types.SimpleNamespace(
            node=lambda: node,
            node_name=lambda: name,
            node_operator=lambda: operator,
            desc=lambda: text,
        )
        return self._api.checked("ParserError", error)


class Runtime:
    def __init__(self, api: TensorRt, log: Any) -> None:
        self._api, self._log = api, log

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if plan != PLAN_PREFIX + self._api.table["release"].encode():
            text = "The engine plan file is generated on an incompatible device, expecting compute "
            self._log.log(self._log.ERROR, text + "6.2 got compute 7.5, please rebuild.")
            return None
        return self._api.checked("ICudaEngine", Plan(self._api))


class Plan:
    """Input x, output y; both APIs, of which the table shows one."""

    num_bindings = num_io_tensors = 2

    def __init__(self, api: TensorRt) -> None:
        self._api = api

    def get_binding_name(self, index: int) -> str:
        return ("x", "y")[index]

    get_tensor_name = get_binding_name

    def binding_is_input(self, index: int) -> bool:
        return index == 0

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._api.module.TensorIOMode
        return modes.INPUT if name == "x" else modes.OUTPUT

    def get_binding_dtype(self, _: Any) -> Any:
        return self._api.module.DataType.FLOAT

    get_tensor_dtype = get_binding_dtype

    def create_execution_context(self) -> Any:
        return self._api.checked("IExecutionContext", Executing(self._api))


class Executing:
    all_binding_shapes_specified = True

    def __init__(self, api: TensorRt) -> None:
        self._api = api
        self._addresses: Dict[str, int] = {}

    def set_binding_shape(self, _: Any, shape: Any) -> bool:
        self._shape = tuple(shape)
        return True

    set_input_shape = set_binding_shape

    def infer_shapes(self) -> List[str]:
        return []

    def get_binding_shape(self, _: Any) -> Any:
        return list(self._shape)

    get_tensor_shape = get_binding_shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v2(self, bindings: List[int], stream: int) -> bool:
        return self._execute(*bindings, stream)

    def execute_async_v3(self, stream: int) -> bool:
        return self._execute(self._addresses["x"], self._addresses["y"], stream)

    def _execute(self, x: int, y: int, stream: int) -> bool:
        assert stream == Stream.handle, "not the default stream"
        size = int(np.prod(self._shape))
        memory = self._api.gpu.memory
        memory[y][:size] = 2 * memory[x][:size]
        return True
