"""The transformer stage: features become detections. No transport and no threads here."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Dict, Mapping, Tuple

import numpy as np

from common.bundle import Manifest
from common.codec import FeatureCodec
from common.codec.base import MAX_FEATURE, are_features
from common.domain.codec import EncodedTensor
from common.domain.detections import Detection, DetectionOptions, StageTiming
from common.domain.errors import InvalidInputError
from common.domain.frames import FrameGeometry
from common.domain.placement import Stage
from common.vision.position import transformer_inputs
from common.vision.postprocess import detections
from services.pipeline.core import StageCore
from services.pipeline.shapes import input_shapes, typical_size

# A worker's step takes milliseconds.
_STUCK_SECONDS = 30.0


@dataclass(frozen=True)
class EncodedFeatures:
    """One frame's features as they arrived, and the sizes of that frame."""

    tensor: EncodedTensor
    geometry: FrameGeometry


@dataclass(frozen=True)
class DecodedFeatures:
    """One frame's features, mask and positional encoding, ready for the engine.

    Attributes:
        tensors: the engine's inputs by name.
        geometry: the frame's sizes before and after resizing.
        decode_seconds: how long decoding took.
        preprocess_seconds: how long making mask and positional encoding took.
    """

    tensors: Dict[str, np.ndarray]
    geometry: FrameGeometry
    decode_seconds: float
    preprocess_seconds: float


@dataclass(frozen=True)
class FrameDetections:
    """One frame's detections; `timing` lacks what only the transport knows."""

    detections: Tuple[Detection, ...]
    timing: StageTiming


class TransformerStage(
    StageCore[EncodedFeatures, DecodedFeatures, DetectionOptions, FrameDetections]
):
    """Decodes features, masks and positions them before the engine, reads boxes after it."""

    def __init__(self, manifest: Manifest) -> None:
        """Serve this bundle's transformer."""
        self._manifest = manifest
        self._codec = FeatureCodec(manifest.codec.calibration)
        self._shapes = input_shapes(manifest, Stage.TRANSFORMER)["features"]

    def prepare(self, frame: EncodedFeatures) -> DecodedFeatures:
        """Decode features, and make the inputs that go with them; see `StageCore.prepare`.

        Raises:
            InvalidInputError: the features do not fit the bundle, the geometry or their payload,
                or are not finite, or too large.
        """
        started = time.perf_counter()
        self._check_shape(frame.tensor.shape, frame.geometry)
        features = self._codec.decode(frame.tensor)
        if not are_features(features):
            raise InvalidInputError(
                f"a feature is not a finite number, or larger than {MAX_FEATURE:g}"
            )
        decoded = time.perf_counter()
        tensors = self._tensors(features, frame.geometry)
        preprocess_seconds = time.perf_counter() - decoded
        return DecodedFeatures(tensors, frame.geometry, decoded - started, preprocess_seconds)

    def finish(
        self,
        inputs: DecodedFeatures,
        outputs: Mapping[str, np.ndarray],
        options: DetectionOptions,
        timing: StageTiming,
    ) -> FrameDetections:
        """Read the detections that `options` ask for; see `StageCore.finish`."""
        started = time.perf_counter()
        logits, boxes = (outputs[name][0] for name in ("logits", "boxes"))
        found = detections(logits, boxes, inputs.geometry, self._manifest.categories, options)
        timing = replace(timing, postprocess_seconds=time.perf_counter() - started)
        return FrameDetections(found, timing)

    def typical_tensors(self) -> Dict[str, np.ndarray]:
        """Features of zeros, for a frame of the usual size."""
        height, width = typical_size(self._manifest.input)
        geometry = FrameGeometry(height, width, height, width, height, width)
        stride = self._manifest.feature_stride
        shape = (1, self._manifest.feature_channels, -(-height // stride), -(-width // stride))
        return self._tensors(np.zeros(shape, np.float32), geometry)

    def stuck_after_seconds(self) -> Tuple[float, float]:
        """See `StageCore.stuck_after_seconds`."""
        return _STUCK_SECONDS, _STUCK_SECONDS

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

    def _tensors(self, features: np.ndarray, geometry: FrameGeometry) -> Dict[str, np.ndarray]:
        grid = (features.shape[2], features.shape[3])
        position, mask = transformer_inputs(geometry, grid, self._manifest.architecture.hidden_dim)
        return {"features": features, "pos": position, "mask": mask}
