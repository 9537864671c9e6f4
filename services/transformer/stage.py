"""The transformer stage: features become detections. No transport and no threads here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Dict, List, Mapping, Tuple

import numpy as np

from common.bundle import Bundle, CutTensor
from common.codec import CutCodec, LatentCoders, LatentDecoder
from common.codec.base import MAX_FEATURE, are_features
from common.codec.latent_streams import FRAMES_HELD, HELD_BYTES_OF_A_LATENT
from common.domain.codec import LATENT_CODECS, EncodedFeatures
from common.domain.detections import Detection, DetectionOptions, StageTiming
from common.domain.errors import InvalidInputError
from common.domain.frames import FrameGeometry
from common.domain.placement import Stage
from common.vision.position import inputs_beside_cut
from common.vision.postprocess import detections
from services.pipeline.core import StageCore
from services.pipeline.shapes import (
    input_shapes,
    largest_latent_count,
    latent_channels,
    typical_size,
)

# A worker's step takes milliseconds.
_STUCK_SECONDS = 30.0


@dataclass(frozen=True)
class ArrivedFeatures:
    """One frame's features as they arrived, and what decodes the latents of its stream."""

    encoded: EncodedFeatures
    latents: LatentDecoder


@dataclass(frozen=True)
class DecodedFeatures:
    """One frame's features or latents, mask and positional encoding, ready for the engine.

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
    StageCore[ArrivedFeatures, DecodedFeatures, DetectionOptions, FrameDetections]
):
    """Decodes features, masks and positions them before the engine, reads boxes after it."""

    # Features of a known, bounded size; a stream's latents are decoded in turn, by its strand.
    prepares_quickly = True

    def __init__(self, bundle: Bundle) -> None:
        """Serve this bundle's transformer.

        Raises:
            ConfigurationError: the tables of the bundle's bottleneck are damaged.
        """
        manifest = bundle.manifest
        self._manifest = manifest
        self._codec = CutCodec(manifest)
        self._coders = LatentCoders.of_bundle(bundle)
        self._shapes = input_shapes(manifest, Stage.TRANSFORMER)

    def latent_decoder(self) -> LatentDecoder:
        """What decodes the latents of a new stream."""
        return LatentDecoder(self._coders, self._check_latents)

    @property
    def kept_bytes(self) -> int:
        """The most memory that a stream takes beside its frames; it may be one of latents."""
        return FRAMES_HELD * HELD_BYTES_OF_A_LATENT * largest_latent_count(self._manifest)

    def prepare(self, frame: ArrivedFeatures) -> DecodedFeatures:
        """Decode features, and make the inputs that go with them; see `StageCore.prepare`.

        The latents of a stream have to be prepared one at a time, in the order of their arrival.

        Raises:
            ReferenceMissingError: latents refer to a frame that is not held.
            InvalidInputError: the features do not fit the bundle, the geometry or their payload,
                or are not finite, or too large.
            PreconditionError: the bundle lacks what their codec needs.
        """
        started = time.perf_counter()
        if frame.encoded.codec in LATENT_CODECS:
            latents, geometry = frame.latents.decode(frame.encoded)
            tensors = {"latents": latents}
        else:
            tensors, geometry = self._features(frame.encoded)
        decoded = time.perf_counter()
        tensors.update(inputs_beside_cut(self._manifest, geometry))
        preprocess_seconds = time.perf_counter() - decoded
        return DecodedFeatures(tensors, geometry, decoded - started, preprocess_seconds)

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
        manifest = self._manifest
        found = detections(
            logits, boxes, inputs.geometry, manifest.categories, options, scoring=manifest.scoring
        )
        timing.postprocess_seconds = time.perf_counter() - started
        return FrameDetections(found, timing)

    def typical_tensors(self) -> List[Dict[str, np.ndarray]]:
        """Features and, if the bundle has a bottleneck, latents of zeros, of a usual frame."""
        manifest = self._manifest
        height, width = typical_size(manifest.input)
        geometry = FrameGeometry(height, width, height, width, height, width)
        beside = inputs_beside_cut(manifest, geometry)

        def zeros(tensor: CutTensor, channels: int) -> np.ndarray:
            return np.zeros((1, channels, *tensor.grid(height, width)), np.float32)

        features = {tensor.name: zeros(tensor, tensor.channels) for tensor in manifest.cut}
        if manifest.bottleneck is None:
            return [{**features, **beside}]
        latents = zeros(manifest.cut[0], manifest.bottleneck.channels)
        return [{**features, **beside}, {"latents": latents, **beside}]

    def stuck_after_seconds(self) -> Tuple[float, float]:
        """See `StageCore.stuck_after_seconds`."""
        return _STUCK_SECONDS, _STUCK_SECONDS

    def _features(self, encoded: EncodedFeatures) -> Tuple[Dict[str, np.ndarray], FrameGeometry]:
        geometry = encoded.geometry
        if geometry is None:
            raise InvalidInputError(
                f"features of codec {encoded.codec.value} cannot refer to another frame"
            )
        for tensor, arrived in zip(self._manifest.cut, encoded.tensors):
            self._check_shape(tensor, tensor.name, tensor.channels, arrived.shape, geometry)
        features = self._codec.decode(encoded.tensors)
        if not all(are_features(values) for values in features.values()):
            raise InvalidInputError(
                f"a feature is not a finite number, or larger than {MAX_FEATURE:g}"
            )
        return features, geometry

    def _check_latents(self, shape: Tuple[int, ...], geometry: FrameGeometry) -> None:
        channels = latent_channels(self._manifest)
        self._check_shape(self._manifest.cut[0], "latents", channels, shape, geometry)

    def _check_shape(
        self,
        tensor: CutTensor,
        kind: str,
        channels: int,
        shape: Tuple[int, ...],
        geometry: FrameGeometry,
    ) -> None:
        """Check a tensor of the cut, or the latents that stand for it.

        Raises:
            InvalidInputError: it does not have these channels and the cells of its frame, or the
                bundle's inputs are never so large.
        """
        cells = tensor.grid(geometry.input_height, geometry.input_width)
        expected = (1, channels, *cells)
        if shape != expected:
            raise InvalidInputError(f"{kind} have shape {shape}, {expected} is expected")
        # Attention takes memory by the square of the cells: a peer must not choose how many.
        allowed = self._shapes[tensor.name]
        if not allowed.contains((1, tensor.channels, *cells)):
            raise InvalidInputError(
                f"{kind} have shape {shape}, the bundle's input policy allows {tensor.name} of "
                f"{allowed.max}"
            )
