"""The backbone stage: an image becomes features. No transport here."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from common.bundle import Bundle
from common.codec import FeatureCodec, codec_named
from common.domain.codec import Codec, EncodedTensor
from common.domain.frames import FrameGeometry, Image
from common.domain.timing import StageTiming
from common.stage.runner import EngineRunner
from common.stage.shapes import typical_size
from common.vision.decode import decode_image
from common.vision.preprocess import preprocess

# Decoding the next frame overlaps with encoding the previous one's features.
_WORKER_THREADS = 2


@dataclass(frozen=True)
class FrameFeatures:
    """One frame's features, ready to be sent; `timing` lacks what only the transport knows."""

    geometry: FrameGeometry
    tensor: EncodedTensor
    timing: StageTiming


@dataclass(frozen=True)
class _Input:
    pixels: np.ndarray
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
        self._workers = ThreadPoolExecutor(_WORKER_THREADS, thread_name_prefix="backbone")

    def usable_codec(self, asked: Optional[Codec]) -> Codec:
        """The codec asked for, or the bundle's default.

        Raises:
            PreconditionError: the bundle cannot serve it.
        """
        codec = asked or codec_named(self._manifest.codec.default)
        self._codec.require(codec)
        return codec

    async def compute(self, image: Image, codec: Codec) -> FrameFeatures:
        """Take one frame from its bytes to encoded features.

        Raises:
            InvalidInputError: the image is malformed or too large.
            EngineError: execution failed.
        """
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self._workers, self._prepare, image)
        execution = await self._runner.run({"pixels": prepared.pixels})
        features = execution.outputs["features"]
        tensor, encode_seconds = await loop.run_in_executor(
            self._workers, self._timed_encode, features, codec
        )
        timing = StageTiming(
            node=self._node,
            decode_seconds=prepared.decode_seconds,
            preprocess_seconds=prepared.preprocess_seconds,
            queue_seconds=execution.queue_seconds,
            execute_seconds=execution.execute_seconds,
            execute_after_seconds=execution.started - began,
            encode_seconds=encode_seconds,
        )
        return FrameFeatures(prepared.geometry, tensor, timing)

    async def warm_up(self) -> None:
        """Run once at the usual size: the first execution plans memory and may tune kernels."""
        height, width = typical_size(self._manifest.input)
        await self._runner.run({"pixels": np.zeros((1, 3, height, width), np.float32)})

    def close(self) -> None:
        """End the worker threads; the engine is closed by its runner."""
        self._workers.shutdown()

    def _prepare(self, image: Image) -> _Input:
        started = time.perf_counter()
        rgb = decode_image(image, self._max_pixels)
        decoded = time.perf_counter()
        pixels, geometry = preprocess(rgb, self._manifest.input, self._manifest.normalization)
        prepared = time.perf_counter()
        return _Input(pixels, geometry, decoded - started, prepared - decoded)

    def _timed_encode(self, features: np.ndarray, codec: Codec) -> Tuple[EncodedTensor, float]:
        started = time.perf_counter()
        tensor = self._codec.encode(features, codec)
        return tensor, time.perf_counter() - started
