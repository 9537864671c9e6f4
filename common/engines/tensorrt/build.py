"""ONNX to a TensorRT plan, with the reasons of what TensorRT refuses."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, List

import structlog
import tensorrt

from common.domain.errors import EngineError
from common.engines.base import CompileOptions, Precision
from common.engines.operators import lacking_operators
from common.engines.tensorrt.messages import build_failure, parse_failure
from common.engines.tensorrt.precision import Layer, sensitive_layers

# The scratch memory of one layer. The CPU and the GPU of a TX2 share 8 GB.
_WORKSPACE_BYTES = 1 << 30
_MESSAGES_KEPT = 50

_log = structlog.get_logger()


class ReasonLog(tensorrt.ILogger):
    """TensorRT's log: passed on, and the errors kept, since its calls give no other reason.

    TensorRT may write to it from threads of its own.
    """

    def __init__(self) -> None:
        """Start with nothing kept."""
        # pybind11 demands its own constructor by name, not through super().
        tensorrt.ILogger.__init__(self)
        self._errors: Deque[str] = deque(maxlen=_MESSAGES_KEPT)

    # The base class is bound from C++, which calls by position; msg is its name there.
    def log(self, severity: tensorrt.ILogger.Severity, msg: str) -> None:
        """Take one message from TensorRT."""
        if int(severity) <= int(tensorrt.ILogger.ERROR):
            self._errors.append(msg)
            _log.warning("tensorrt", message=msg)
        elif int(severity) == int(tensorrt.ILogger.WARNING):
            _log.debug("tensorrt", message=msg)

    def take_errors(self) -> List[str]:
        """The errors since the last call, oldest first."""
        errors = list(self._errors)
        self._errors.clear()
        return errors


@dataclass(frozen=True)
class Built:
    """The result of a build: the plan, and all measurements so far, for the next build."""

    plan: bytes
    timings: bytes


def build_plan(
    onnx: bytes, file: str, options: CompileOptions, timings: bytes, log: ReasonLog
) -> Built:
    """Compile a graph for this GPU, which takes seconds to many minutes.

    Args:
        onnx: the content of the ONNX file.
        file: its name, for errors.
        options: the shapes and the precision.
        timings: what earlier builds measured, or empty.
        log: the log that TensorRT writes to, which has the reason of a failure.

    Raises:
        UnsupportedGraphError: TensorRT lacks an operator.
        EngineError: memory ran out, or TensorRT gave up.
    """
    log.take_errors()
    try:
        builder = tensorrt.Builder(log)
    # pybind11 raises this if the constructor returns nothing.
    except TypeError as error:
        raise EngineError(f"tensorrt cannot start: {build_failure(log.take_errors())}") from error
    network = builder.create_network(_network_flags())
    _parse(onnx, file, network, log)
    config = builder.create_builder_config()
    _limit_workspace(config)
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    if options.precision is Precision.FP16:
        _allow_fp16(network, config)
    _add_profile(builder, network, config, options)
    _use_timings(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"tensorrt cannot build: {build_failure(log.take_errors())}")
    return Built(bytes(plan), bytes(config.get_timing_cache().serialize()))


def _network_flags() -> int:
    flags = tensorrt.NetworkDefinitionCreationFlag
    # From 10 on all batches are explicit, and later releases lack the flag.
    return 1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0


def _parse(onnx: bytes, file: str, network: tensorrt.INetworkDefinition, log: ReasonLog) -> None:
    parser = tensorrt.OnnxParser(network, log)
    if parser.parse(onnx):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    failure = parse_failure([_description(error) for error in errors], log.take_errors())
    if failure.operator:
        engine = f"tensorrt {tensorrt.__version__}"
        raise lacking_operators(engine, file, [failure.operator], failure.node)
    raise EngineError(f"tensorrt cannot read the graph: {failure.reason}")


def _description(error: Any) -> str:
    """Describe one of the parser's errors; only newer releases tell the name of the node."""
    if hasattr(error, "node_operator"):
        operator, name = error.node_operator(), error.node_name()
        return f"While parsing node number {error.node()} [{operator} -> {name}]: {error.desc()}"
    return f"{error.desc()} (node {error.node()})"


def _limit_workspace(config: tensorrt.IBuilderConfig) -> None:
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    else:
        config.max_workspace_size = _WORKSPACE_BYTES


def _allow_fp16(network: tensorrt.INetworkDefinition, config: tensorrt.IBuilderConfig) -> None:
    flags = tensorrt.BuilderFlag
    if not hasattr(flags, "FP16"):
        raise EngineError(
            f"tensorrt {tensorrt.__version__} takes the precision from the graph; use fp32"
        )
    config.set_flag(flags.FP16)
    # 8.2 has the older name, later releases only the newer one.
    has_newer = hasattr(flags, "OBEY_PRECISION_CONSTRAINTS")
    config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS if has_newer else flags.STRICT_TYPES)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    inputs = [network.get_input(index).name for index in range(network.num_inputs)]
    for index in sensitive_layers([_facts(layer) for layer in layers], inputs):
        layers[index].precision = tensorrt.DataType.FLOAT
        for output in range(layers[index].num_outputs):
            layers[index].set_output_type(output, tensorrt.DataType.FLOAT)


def _facts(layer: tensorrt.ILayer) -> Layer:
    # An optional input that is not given is None.
    inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    is_float = all(
        output.dtype == tensorrt.DataType.FLOAT and not output.is_shape_tensor for output in outputs
    )
    return Layer(
        kind=layer.type.name,
        inputs=tuple(tensor.name for tensor in inputs if tensor is not None),
        outputs=tuple(tensor.name for tensor in outputs),
        is_float=is_float,
    )


def _add_profile(
    builder: tensorrt.Builder,
    network: tensorrt.INetworkDefinition,
    config: tensorrt.IBuilderConfig,
    options: CompileOptions,
) -> None:
    names: List[str] = [network.get_input(index).name for index in range(network.num_inputs)]
    if set(names) != set(options.shapes):
        raise EngineError(
            f"tensorrt: the graph takes {names}, shapes are known of {sorted(options.shapes)}"
        )
    profile = builder.create_optimization_profile()
    for name in names:
        shape = options.shapes[name]
        profile.set_shape(name, shape.min, shape.opt, shape.max)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"tensorrt refuses the shapes {_shown(options)}")


def _shown(options: CompileOptions) -> Dict[str, str]:
    return {name: f"{shape.min} to {shape.max}" for name, shape in options.shapes.items()}


def _use_timings(config: tensorrt.IBuilderConfig, timings: bytes) -> None:
    """Start from earlier measurements; of another device or release they are refused."""
    cache = config.create_timing_cache(timings)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
