"""The transformer stage: features become detections. No transport here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Dict, Hashable, Tuple

import numpy as np

from common.bundle import Bundle
from common.codec import FeatureCodec
from common.codec.base import MAX_FEATURE, are_features
from common.domain.codec import EncodedTensor
from common.domain.detections import Detection, DetectionOptions
from common.domain.errors import InvalidInputError
from common.domain.frames import FrameGeometry
from common.domain.placement import Stage
from common.domain.timing import StageTiming
from common.vision.position import transformer_inputs
from common.vision.postprocess import detections
from services.pipeline.flow import FrameFlow
from services.pipeline.runner import EngineRunner, Execution
from services.pipeline.shapes import input_shapes, typical_size

# A worker's step takes milliseconds.
_STUCK_SECONDS = 30.0


@dataclass(frozen=True)
class FrameDetections:
    """One frame's detections; `timing` lacks what only the transport knows."""

    detections: Tuple[Detection, ...]
    timing: StageTiming


@dataclass(frozen=True)
class _Input:
    tensors: Dict[str, np.ndarray]
    geometry: FrameGeometry
    decode_seconds: float
    preprocess_seconds: float


class TransformerStage:
    """Decode, mask and position, execute and read boxes, each overlapping with others' frames."""

    def __init__(self, bundle: Bundle, node: str, runner: EngineRunner) -> None:
        """Serve `bundle` with the engine of `runner`."""
        self._manifest = bundle.manifest
        self._node = node
        self._runner = runner
        self._codec = FeatureCodec(bundle.manifest.codec.calibration)
        self._shapes = input_shapes(bundle.manifest, Stage.TRANSFORMER)["features"]
        self._flow = FrameFlow(runner, "transformer")

    async def compute(
        self,
        tensor: EncodedTensor,
        geometry: FrameGeometry,
        options: DetectionOptions,
        stream: Hashable,
    ) -> FrameDetections:
        """Take one frame from encoded features to detections.

        Args:
            tensor: the features.
            geometry: of the frame that they are of.
            options: which detections are wanted.
            stream: that the frame is of; streams take turns.

        Raises:
            InvalidInputError: the features do not fit the bundle, the geometry or their payload,
                or are not finite, or too large.
            EngineError: execution failed.
        """
        began = time.perf_counter()
        return await self._flow.run(
            stream,
            lambda: self._prepare(tensor, geometry),
            lambda prepared, execution: self._read_boxes(prepared, execution, options, began),
        )

    async def warm_up(self) -> None:
        """Run once at the usual size: the first execution plans memory and may tune kernels."""
        height, width = typical_size(self._manifest.input)
        geometry = FrameGeometry(height, width, height, width, height, width)
        stride = self._manifest.feature_stride
        shape = (1, self._manifest.feature_channels, -(-height // stride), -(-width // stride))
        await self._runner.run(self._inputs(np.zeros(shape, np.float32), geometry))

    def stuck_seconds(self) -> float:
        """How long a worker has been hanging; 0 when none does."""
        return self._flow.stuck_seconds(_STUCK_SECONDS, _STUCK_SECONDS)

    def close(self) -> bool:
        """End the worker threads, if they do end; the engine is closed by its runner."""
        return self._flow.close()

    def _prepare(self, tensor: EncodedTensor, geometry: FrameGeometry) -> _Input:
        started = time.perf_counter()
        self._check_shape(tensor.shape, geometry)
        features = self._codec.decode(tensor)
        if not are_features(features):
            raise InvalidInputError(
                f"a feature is not a finite number, or larger than {MAX_FEATURE:g}"
            )
        decoded = time.perf_counter()
        inputs = self._inputs(features, geometry)
        return _Input(inputs, geometry, decoded - started, time.perf_counter() - decoded)

    def _check_shape(self, shape: Tuple[int, ...], geometry: FrameGeometry) -> None:
        channels, stride = self._manifest.feature_channels, self._manifest.feature_stride
        # ceil: each of the backbone's stride-2 layers rounds up.
        expected = (
            *(1, channels),
            *(-(-side // stride) for side in (geometry.input_height, geometry.input_width)),
        )
        if shape != expected:
            raise InvalidInputError(f"features have shape {shape}, {expected} is expected")
        # Attention takes memory by the square of the cells: a peer must not choose how many.
        if not self._shapes.contains(shape):
            raise InvalidInputError(
                f"features have shape {shape}, the bundle's input policy allows {self._shapes.max}"
            )

    def _inputs(self, features: np.ndarray, geometry: FrameGeometry) -> Dict[str, np.ndarray]:
        grid = (features.shape[2], features.shape[3])
        position, mask = transformer_inputs(geometry, grid, self._manifest.architecture.hidden_dim)
        return {"features": features, "pos": position, "mask": mask}

    def _read_boxes(
        self, prepared: _Input, execution: Execution, options: DetectionOptions, began: float
    ) -> FrameDetections:
        started = time.perf_counter()
        logits, boxes = (execution.outputs[name][0] for name in ("logits", "boxes"))
        found = detections(logits, boxes, prepared.geometry, self._manifest.categories, options)
        timing = StageTiming(
            node=self._node,
            decode_seconds=prepared.decode_seconds,
            preprocess_seconds=prepared.preprocess_seconds,
            queue_seconds=execution.queue_seconds,
            execute_seconds=execution.execute_seconds,
            execute_after_seconds=execution.started - began,
            postprocess_seconds=time.perf_counter() - started,
        )
        return FrameDetections(found, timing)
