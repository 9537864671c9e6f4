"""`Backbone.Process`: streams through the backbone stage, chained to a transformer's."""

from __future__ import annotations

from typing import Any, Tuple

from common.domain.codec import Codec
from common.domain.detections import StageTiming
from common.domain.frames import Image
from common.domain.placement import NodePair, Stage
from common.server.guard import GuardedStream
from common.wire.detections import checked_result
from common.wire.frames import (
    codec_from_wire,
    geometry_to_wire,
    image_bytes,
    image_from_wire,
    tensor_to_wire,
)
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2, stage_pb2_grpc
from services.backbone.pictures import Picture
from services.backbone.stage import BackboneStage, FrameFeatures
from services.backbone.transformers import Transformers
from services.pipeline.frame_stream import (
    Context,
    FrameStream,
    StageHost,
    StreamFacts,
    opening_of,
    sender_of,
)
from services.pipeline.passage import Pipeline

BackbonePipeline = Pipeline[Image, Picture, Codec, FrameFeatures]


class BackboneServicer(stage_pb2_grpc.BackboneServicer):
    """Frames in, detections out, by way of the transformer that the opening message names."""

    def __init__(
        self,
        host: StageHost,
        stage: BackboneStage,
        pipeline: BackbonePipeline,
        transformers: Transformers,
    ) -> None:
        """Serve `stage` by its `pipeline`, and stream its features to `transformers`."""
        self._host = host
        self._stage = stage
        self._pipeline = pipeline
        self._transformers = transformers

    async def Process(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See stage.proto."""
        await self._host.guard.run(request_iterator, context, self._serve)

    async def _serve(self, stream: GuardedStream) -> None:
        opening = await opening_of(stream)
        nodes = NodePair(self._host.node, opening.downstream_node)
        sender = self._host.senders.label(sender_of(opening.context))
        facts = StreamFacts.of(opening.context, nodes, sender)
        codec = self._stage.usable_codec(codec_from_wire(opening.codec))
        transformer = await self._transformers.open(opening, self._host.bundle.digest)
        frames = BackboneStream(
            *(self._host, facts, stream),
            pipeline=self._pipeline,
            codec=codec,
            transformer=transformer,
        )
        await frames.serve()


class BackboneStream(FrameStream):
    """One stream of frames, each served by the pipeline and then by a transformer."""

    kind = "frame"

    def __init__(
        self,
        host: StageHost,
        facts: StreamFacts,
        stream: GuardedStream,
        *,
        pipeline: BackbonePipeline,
        codec: Codec,
        transformer: StageStream,
    ) -> None:
        """Serve `stream`; its features travel by `codec` to `transformer`, which is closed after.

        For the other arguments see `FrameStream`.
        """
        super().__init__(host, facts, stream)
        self._pipeline = pipeline
        self._codec = codec
        self._transformer = transformer

    async def serve(self) -> None:
        """Serve the stream to its end; it ends, too, when the one to its transformer does.

        Raises:
            TandemError: a message is no frame, the transformer was lost, or this service drains.
        """
        try:
            await self.agree()
            draining, lost = self.host.draining.wait(), self._transformer.wait_lost()
            await self.ordered().run(self.frames(), draining, lost)
            if self._transformer.lost:
                raise await self._transformer.wait_lost()
            self.host.raise_if_draining()
        finally:
            await self._transformer.close()

    def size_bytes(self, frame: detector_pb2.Frame) -> int:
        """See `FrameStream.size_bytes`."""
        return image_bytes(frame)

    async def result_of(
        self, frame: detector_pb2.Frame
    ) -> Tuple[stage_pb2.FrameResult, StageTiming]:
        """See `FrameStream.result_of`."""
        features = await self._pipeline.run(self.stream, image_from_wire(frame), self._codec)
        return await self._ask_transformer(frame.frame_id, features), features.timing

    async def _ask_transformer(
        self, frame_id: int, features: FrameFeatures
    ) -> stage_pb2.FrameResult:
        node, metrics = self.facts.nodes.transformer, self.host.metrics
        request = stage_pb2.TransformerRequest(
            features=stage_pb2.Features(
                frame_id=frame_id,
                geometry=geometry_to_wire(features.geometry),
                tensor=tensor_to_wire(features.tensor),
            )
        )
        metrics.count_bytes(node, "sent", len(features.tensor.data))
        result = await self._transformer.ask(request, frame_id)
        checked_result(result, f"transformer on {node}", (Stage.TRANSFORMER,))
        metrics.stage_seconds.labels(Stage.TRANSFORMER.value, "transfer").observe(
            result.timing.transformer.transfer_seconds
        )
        return result
