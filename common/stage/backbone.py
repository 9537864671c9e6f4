"""The backbone stage: an image becomes features. No transport here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Dict, Hashable, Optional

import numpy as np

from common.bundle import Bundle
from common.codec import FeatureCodec, codec_named
from common.domain.codec import Codec, EncodedTensor
from common.domain.errors import EngineError
from common.domain.frames import FrameGeometry, Image
from common.domain.timing import StageTiming
from common.stage.flow import FrameFlow
from common.stage.runner import EngineRunner, Execution
from common.stage.shapes import typical_size
from common.vision.decode import decode_image
from common.vision.preprocess import preprocess


@dataclass(frozen=True)
class FrameFeatures:
    """One frame's features, ready to be sent; `timing` lacks what only the transport knows."""

    geometry: FrameGeometry
    tensor: EncodedTensor
    timing: StageTiming


@dataclass(frozen=True)
class _Input:
    tensors: Dict[str, np.ndarray]
    geometry: FrameGeometry
    decode_seconds: float
    preprocess_seconds: float


class BackboneStage:
    """Decode, preprocess, execute and encode, each overlapping with the others' frames."""

    def __init__(self, bundle: Bundle, node: str, runner: EngineRunner, max_pixels: int) -> None:
        """Serve `bundle` with the engine of `runner`; images over `max_pixels` are refused."""
        self._manifest = bundle.manifest
        self._node = node
        self._runner = runner
        self._max_pixels = max_pixels
        self._codec = FeatureCodec(bundle.manifest.codec.calibration)
        self._flow = FrameFlow(runner, "backbone")

    def usable_codec(self, asked: Optional[Codec]) -> Codec:
        """The codec asked for, or the bundle's default.

        Raises:
            PreconditionError: the bundle cannot serve it.
        """
        codec = asked or codec_named(self._manifest.codec.default)
        self._codec.require(codec)
        return codec

    async def compute(self, image: Image, codec: Codec, stream: Hashable) -> FrameFeatures:
        """Take one frame from its bytes to encoded features.

        Args:
            image: the frame.
            codec: for the features.
            stream: that the frame is of; streams take turns.

        Raises:
            InvalidInputError: the image is malformed or too large.
            EngineError: execution failed.
        """
        began = time.perf_counter()
        return await self._flow.run(
            stream,
            lambda: self._prepare(image),
            lambda prepared, execution: self._encode(prepared, execution, codec, began),
        )

    async def warm_up(self) -> None:
        """Run once at the usual size: the first execution plans memory and may tune kernels."""
        height, width = typical_size(self._manifest.input)
        await self._runner.run({"pixels": np.zeros((1, 3, height, width), np.float32)})

    def stuck_seconds(self) -> float:
        """How long a worker has been hanging; 0 when none does."""
        return self._flow.stuck_seconds()

    def close(self) -> bool:
        """End the worker threads, if they do end; the engine is closed by its runner."""
        return self._flow.close()

    def _prepare(self, image: Image) -> _Input:
        started = time.perf_counter()
        rgb = decode_image(image, self._max_pixels)
        decoded = time.perf_counter()
        pixels, geometry = preprocess(rgb, self._manifest.input, self._manifest.normalization)
        prepared = time.perf_counter()
        return _Input({"pixels": pixels}, geometry, decoded - started, prepared - decoded)

    def _encode(
        self, prepared: _Input, execution: Execution, codec: Codec, began: float
    ) -> FrameFeatures:
        started = time.perf_counter()
        features = execution.outputs["features"]
        # A codec would turn them into numbers like any other.
        if not np.isfinite(features).all():
            raise EngineError("the backbone's features are not finite")
        tensor = self._codec.encode(features, codec)
        timing = StageTiming(
            node=self._node,
            decode_seconds=prepared.decode_seconds,
            preprocess_seconds=prepared.preprocess_seconds,
            queue_seconds=execution.queue_seconds,
            execute_seconds=execution.execute_seconds,
            execute_after_seconds=execution.started - began,
            encode_seconds=time.perf_counter() - started,
        )
        return FrameFeatures(prepared.geometry, tensor, timing)
