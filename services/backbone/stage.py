"""The backbone stage: an image becomes features. No transport here."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Hashable, Optional

import numpy as np

from common.bundle import Bundle
from common.codec import FeatureCodec, codec_named
from common.codec.base import are_features
from common.domain.codec import Codec, EncodedTensor
from common.domain.errors import EngineError
from common.domain.frames import FrameGeometry, Image
from common.domain.timing import StageTiming
from services.backbone.frame_inputs import FrameInput, FrameInputs
from services.pipeline.flow import FrameFlow
from services.pipeline.runner import EngineRunner, Execution
from services.pipeline.shapes import typical_size


@dataclass(frozen=True)
class FrameFeatures:
    """One frame's features, ready to be sent; `timing` lacks what only the transport knows."""

    geometry: FrameGeometry
    tensor: EncodedTensor
    timing: StageTiming


class BackboneStage:
    """Decode, preprocess, execute and encode, each overlapping with the others' frames."""

    def __init__(
        self, bundle: Bundle, node: str, runner: EngineRunner, inputs: FrameInputs
    ) -> None:
        """Serve `bundle` with the engine of `runner`; `inputs` decodes, and is closed with this."""
        self._manifest = bundle.manifest
        self._node = node
        self._runner = runner
        self._inputs = inputs
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
            InvalidInputError: the image is malformed, too large or too expensive to decode.
            UnavailableError: the machine is too busy to decode it, or this was closed.
            EngineError: execution failed.
        """
        began = time.perf_counter()
        return await self._flow.run(
            stream,
            lambda: self._inputs.make(image),
            lambda prepared, execution: self._encode(prepared, execution, codec, began),
        )

    async def warm_up(self) -> None:
        """Run once at the usual size: the first execution plans memory and may tune kernels."""
        await asyncio.get_running_loop().run_in_executor(None, self._inputs.start)
        height, width = typical_size(self._manifest.input)
        await self._runner.run({"pixels": np.zeros((1, 3, height, width), np.float32)})

    def stuck_seconds(self) -> float:
        """How long a worker has been at one frame if that is far too long, else 0."""
        return self._flow.stuck_seconds(*self._inputs.stuck_after_seconds())

    def close(self) -> bool:
        """Kill what decodes and end the workers, if they do end; the runner closes the engine."""
        self._inputs.close()
        return self._flow.close()

    def _encode(
        self, prepared: FrameInput, execution: Execution, codec: Codec, began: float
    ) -> FrameFeatures:
        started = time.perf_counter()
        features = execution.outputs["features"]
        # A codec would turn them into numbers like any other.
        if not are_features(features):
            raise EngineError("the backbone's features are not finite, or far too large")
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
