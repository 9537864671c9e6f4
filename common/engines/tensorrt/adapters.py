"""One interface for the two ways in which TensorRT executes: bindings by index, tensors by name.

TensorRT up to 8.4 has only the former, 8.5 and 8.6 have both, and 10 has only the latter.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Protocol, Tuple

import tensorrt

from common.domain.errors import EngineError

Shape = Tuple[int, ...]


class Execution(Protocol):
    """A loaded plan, ready to execute."""

    def set_shapes(self, shapes: Mapping[str, Shape]) -> Dict[str, Shape]:
        """Set the shape of every input by its name; returns the shapes of the outputs.

        Raises:
            EngineError: the plan does not take these shapes.
        """
        ...

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """Start an execution on the CUDA stream with this handle.

        Args:
            addresses: of each tensor on the device, by the tensor's name.
            stream: the handle of the stream.

        Raises:
            EngineError: TensorRT refused.
        """
        ...


class IndexedBindings:
    """TensorRT 8.2: bindings by index. A plan with one profile has no offsets."""

    def __init__(self, engine: tensorrt.ICudaEngine) -> None:
        """Make an execution context of `engine`."""
        self._context = _context_of(engine)
        self._names = [engine.get_binding_name(index) for index in range(engine.num_bindings)]
        self._inputs = [
            index for index in range(engine.num_bindings) if engine.binding_is_input(index)
        ]
        for index, name in enumerate(self._names):
            _require_float32(name, engine.get_binding_dtype(index))

    def set_shapes(self, shapes: Mapping[str, Shape]) -> Dict[str, Shape]:
        """See `Execution.set_shapes`."""
        for index in self._inputs:
            name = self._names[index]
            if not self._context.set_binding_shape(index, shapes[name]):
                raise EngineError(f"tensorrt refuses {name} of shape {shapes[name]}")
        if not self._context.all_binding_shapes_specified:
            raise EngineError(f"tensorrt lacks the shape of an input besides {sorted(shapes)}")
        return {
            name: tuple(self._context.get_binding_shape(index))
            for index, name in enumerate(self._names)
            if index not in self._inputs
        }

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """See `Execution.enqueue`."""
        bindings = [addresses[name] for name in self._names]
        if not self._context.execute_async_v2(bindings, stream):
            raise EngineError("tensorrt could not execute")


class NamedTensors:
    """TensorRT 10: tensors by name."""

    def __init__(self, engine: tensorrt.ICudaEngine) -> None:
        """Make an execution context of `engine`."""
        self._context = _context_of(engine)
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs: List[str] = []
        self._outputs: List[str] = []
        for name in names:
            is_input = engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT
            (self._inputs if is_input else self._outputs).append(name)
            _require_float32(name, engine.get_tensor_dtype(name))

    def set_shapes(self, shapes: Mapping[str, Shape]) -> Dict[str, Shape]:
        """See `Execution.set_shapes`."""
        for name in self._inputs:
            if not self._context.set_input_shape(name, shapes[name]):
                raise EngineError(f"tensorrt refuses {name} of shape {shapes[name]}")
        missing = self._context.infer_shapes()
        if missing:
            raise EngineError(f"tensorrt lacks the shapes of {', '.join(missing)}")
        return {name: tuple(self._context.get_tensor_shape(name)) for name in self._outputs}

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """See `Execution.enqueue`."""
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"tensorrt refuses the memory of {name}")
        if not self._context.execute_async_v3(stream):
            raise EngineError("tensorrt could not execute")


def execution_of(engine: tensorrt.ICudaEngine) -> Execution:
    """Prepare a deserialised plan for execution, in the way that this TensorRT offers."""
    if hasattr(engine, "num_io_tensors"):
        return NamedTensors(engine)
    return IndexedBindings(engine)


def _context_of(engine: tensorrt.ICudaEngine) -> tensorrt.IExecutionContext:
    context = engine.create_execution_context()
    if context is None:
        raise EngineError("tensorrt could not make an execution context: out of memory?")
    return context


def _require_float32(name: str, dtype: tensorrt.DataType) -> None:
    if dtype != tensorrt.DataType.FLOAT:
        raise EngineError(f"tensorrt: {name} is {dtype}, only float32 inputs and outputs are known")
