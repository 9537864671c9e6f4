"""`Transformer.Process`: streams through the transformer stage."""

from __future__ import annotations

from typing import Any, Tuple

from common.domain.detections import DetectionOptions, StageTiming
from common.domain.errors import PreconditionError
from common.domain.placement import NodePair
from common.server.guard import GuardedStream
from common.wire.detections import detections_to_wire
from common.wire.frames import geometry_from_wire, tensor_from_wire
from protos.tandem.v1 import stage_pb2, stage_pb2_grpc
from services.pipeline.frame_stream import (
    Context,
    FrameStream,
    StageHost,
    StreamFacts,
    opening_of,
    sender_of,
)
from services.pipeline.passage import Pipeline
from services.transformer.stage import DecodedFeatures, EncodedFeatures, FrameDetections

TransformerPipeline = Pipeline[EncodedFeatures, DecodedFeatures, DetectionOptions, FrameDetections]


class TransformerServicer(stage_pb2_grpc.TransformerServicer):
    """Features in, detections out."""

    def __init__(self, host: StageHost, pipeline: TransformerPipeline) -> None:
        """Serve by `pipeline`."""
        self._host = host
        self._pipeline = pipeline

    async def Process(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See stage.proto."""
        await self._host.guard.run(request_iterator, context, self._serve)

    async def _serve(self, stream: GuardedStream) -> None:
        opening = await opening_of(stream)
        self._check_bundle(opening.bundle_digest, sender_of(opening.context))
        sender = self._host.senders.label(sender_of(opening.context))
        facts = StreamFacts.of(opening.context, NodePair(sender, self._host.node), sender)
        await TransformerStream(self._host, facts, stream, self._pipeline).serve()

    def _check_bundle(self, digest: str, sender: str) -> None:
        own = self._host.bundle.digest
        if digest != own:
            raise PreconditionError(
                f"the halves are of different bundles: backbone on {sender} runs {digest}, "
                f"transformer on {self._host.node} runs {own}"
            )


class TransformerStream(FrameStream):
    """One stream of features, which the pipeline turns into detections."""

    kind = "features"

    def __init__(
        self,
        host: StageHost,
        facts: StreamFacts,
        stream: GuardedStream,
        pipeline: TransformerPipeline,
    ) -> None:
        """Serve `stream` by `pipeline`; for the other arguments see `FrameStream`."""
        super().__init__(host, facts, stream)
        self._pipeline = pipeline

    async def serve(self) -> None:
        """Serve the stream to its end.

        Raises:
            TandemError: a message is no frame, or this service drains.
        """
        await self.agree()
        await self.ordered().run(self.frames(), self.host.draining.wait())
        self.host.raise_if_draining()

    def size_bytes(self, frame: stage_pb2.Features) -> int:
        """See `FrameStream.size_bytes`."""
        return len(frame.tensor.data)

    async def result_of(
        self, frame: stage_pb2.Features
    ) -> Tuple[stage_pb2.FrameResult, StageTiming]:
        """See `FrameStream.result_of`."""
        found = await self._pipeline.run(self.stream, _features(frame), self.facts.options)
        detections = detections_to_wire(found.detections)
        return stage_pb2.FrameResult(frame_id=frame.frame_id, detections=detections), found.timing


def _features(frame: stage_pb2.Features) -> EncodedFeatures:
    return EncodedFeatures(tensor_from_wire(frame.tensor), geometry_from_wire(frame.geometry))
