"""TensorRT: an optional engine, for NVIDIA GPUs."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Dict, FrozenSet, Mapping, Optional, Tuple

import numpy as np
import structlog
import tensorrt

from common.domain.errors import ConfigurationError, EngineError, UnsupportedGraphError
from common.engines.base import CompileOptions, Device, LoadOptions, PlanReport
from common.engines.operators import operators_of
from common.engines.reading import model_bytes
from common.engines.tensorrt.adapters import execution_of
from common.engines.tensorrt.build import ReasonLog, build_plan
from common.engines.tensorrt.cache import PlanCache, PlanKey, PlanTarget
from common.engines.tensorrt.gpu import Gpu, cuda_errors
from common.engines.tensorrt.messages import plan_failure
from common.engines.tensorrt.operators import require_readable

DEVICES = (Device.CUDA,)
# From 11 on a graph says itself what to compute in.
HALF_PRECISION_DEVICES: FrozenSet[Device] = frozenset(
    DEVICES if hasattr(tensorrt.BuilderFlag, "FP16") else ()
)

_log = structlog.get_logger()


class TensorRtEngine:
    """A loaded plan; see `common.engines.base.Engine`.

    Made, run and closed on one thread, to which pycuda's context belongs.
    """

    def __init__(self, gpu: Gpu, onnx_path: Path, content: bytes, options: CompileOptions) -> None:
        """Load the plan of a half, and build it if the cache has none.

        Args:
            gpu: to run on.
            onnx_path: the half's file.
            content: of that file.
            options: what to compile it for.
        """
        self._gpu = gpu
        self._options = options
        self._log = ReasonLog()
        self._runtime = tensorrt.Runtime(self._log)
        self._engine, self.plan = self._obtain(onnx_path, content)
        self._execution = execution_of(self._engine)

    @property
    def description(self) -> str:
        """Name, version, device and precision."""
        precision = self._options.precision.value
        return f"tensorrt {tensorrt.__version__} {self._gpu.name} {precision}"

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        self._check(inputs)
        with cuda_errors():
            outputs = self._execution.set_shapes({n: a.shape for n, a in inputs.items()})
            try:
                addresses = {name: self._gpu.upload(name, a) for name, a in inputs.items()}
                for name, shape in outputs.items():
                    addresses[name] = self._gpu.reserve(name, shape)
                self._execution.enqueue(addresses, self._gpu.stream_handle)
                for name, shape in outputs.items():
                    self._gpu.start_download(name, shape)
            finally:
                # What was started still uses the buffers.
                self._gpu.synchronize()
            return {name: self._gpu.downloaded(name, shape) for name, shape in outputs.items()}

    def close(self) -> None:
        """Release the plan, then the GPU."""
        del self._execution
        del self._engine
        del self._runtime
        self._gpu.close()

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        expected = self._options.shapes
        if inputs.keys() != expected.keys():
            raise EngineError(f"tensorrt takes {sorted(expected)}, got {sorted(inputs)}")
        for name, shape in expected.items():
            actual = inputs[name]
            if actual.dtype != np.float32:
                raise EngineError(f"tensorrt takes {name} in float32, got {actual.dtype}")
            if not shape.contains(actual.shape):
                raise EngineError(
                    f"tensorrt takes {name} of shape {shape.min} to {shape.max}, got {actual.shape}"
                )

    def _obtain(self, onnx_path: Path, content: bytes) -> Tuple[tensorrt.ICudaEngine, PlanReport]:
        """Deserialise the plan from the cache, or a new one."""
        started = time.perf_counter()
        target = PlanTarget(tensorrt.__version__, self._gpu.name, self._gpu.compute_capability)
        key = PlanKey(onnx_path.stem, hashlib.sha256(content).hexdigest(), target, self._options)
        cache = PlanCache(self._options.cache)
        plan = cache.plan(key)
        engine = self._deserialized(plan) if plan is not None else None
        was_cached = engine is not None
        if plan is None or engine is None:
            plan = self._build(onnx_path, content, key, cache)
            engine = self._deserialized(plan)
        if engine is None:
            reason = plan_failure(self._log.take_errors())
            raise EngineError(f"tensorrt cannot load the plan of {onnx_path}: {reason}")
        seconds = time.perf_counter() - started
        return engine, PlanReport(cache.plan_path(key), len(plan), was_cached, seconds)

    def _deserialized(self, plan: bytes) -> Optional[tensorrt.ICudaEngine]:
        self._log.take_errors()
        return self._runtime.deserialize_cuda_engine(plan)

    def _build(self, onnx_path: Path, content: bytes, key: PlanKey, cache: PlanCache) -> bytes:
        refused = self._log.take_errors()
        if refused:
            _log.warning("cached plan refused", half=key.half, reason=plan_failure(refused))
        _log.info(
            "building plan",
            half=key.half,
            gpu=self._gpu.name,
            precision=self._options.precision.value,
        )
        timings = cache.timings(key.target)
        try:
            built = build_plan(content, onnx_path.name, self._options, timings, self._log)
        except UnsupportedGraphError:
            raise
        except EngineError as error:
            raise EngineError(f"tensorrt cannot load {onnx_path}: {error}") from error
        try:
            cache.keep_plan(key, built.plan)
            cache.keep_timings(key.target, built.timings)
        except OSError as error:
            # The engine works all the same; only the next start has to build again.
            _log.warning("plan not kept", folder=str(self._options.cache), reason=str(error))
        return built.plan


def load(onnx_path: Path, options: LoadOptions) -> TensorRtEngine:
    """Load a half; see `common.engines.base.EngineModule.load`."""
    if options.compilation is None:
        raise ConfigurationError("engine 'tensorrt' has to be told the shapes of its inputs")
    content = model_bytes(onnx_path, options.sha256, "tensorrt")
    # What is known to fail is told within a moment, and on a machine without a GPU too.
    require_readable(tensorrt.__version__, onnx_path.name, operators_of(content, onnx_path.name))
    gpu = Gpu()
    try:
        with cuda_errors():
            return TensorRtEngine(gpu, onnx_path, content, options.compilation)
    except OSError as error:
        gpu.close()
        raise EngineError(f"tensorrt cannot load {onnx_path}: {error.strerror}") from error
    except BaseException:
        gpu.close()
        raise
