"""`Backbone.Process`: streams around the backbone stage, chained to a transformer's."""

from __future__ import annotations

from typing import Any, Mapping, Sequence, Tuple

import grpc

from common.domain.detections import StageTiming
from common.domain.errors import PreconditionError
from common.domain.placement import NodePair, Stage
from common.server.guard import GuardedStream
from common.server.stream import OrderedStream
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
from services.backbone.stage import BackboneStage, FrameFeatures
from services.pipeline.servicing import (
    Context,
    StageHost,
    StreamFacts,
    answer_frame,
    frames_of,
    opening_of,
)


class BackboneServicer(stage_pb2_grpc.BackboneServicer):
    """Frames in, detections out, by way of the transformer that the opening message names."""

    def __init__(
        self,
        host: StageHost,
        stage: BackboneStage,
        transformers: Mapping[str, Sequence[grpc.aio.Channel]],
    ) -> None:
        """Serve `stage`, with channels to each node's transformers."""
        self._host = host
        self._stage = stage
        self._transformers = transformers

    async def Process(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See stage.proto."""
        await self._host.guard.run(request_iterator, context, self._serve)

    async def _serve(self, stream: GuardedStream) -> None:
        opening = await opening_of(stream)
        nodes = NodePair(self._host.node, opening.downstream_node)
        sender = self._host.senders.label(opening.context.sender)
        facts = StreamFacts.of(opening.context, nodes, sender)
        codec = self._stage.usable_codec(codec_from_wire(opening.codec))
        transformer = await self._open_transformer(opening)

        async def answer(request: stage_pb2.BackboneRequest) -> stage_pb2.StageResponse:
            frame = request.frame

            async def work() -> Tuple[stage_pb2.FrameResult, StageTiming]:
                features = await self._stage.compute(image_from_wire(frame), codec, stream)
                result = await self._ask(transformer, opening.downstream_node, frame, features)
                return result, features.timing

            return await answer_frame(self._host, facts, frame.frame_id, image_bytes(frame), work)

        try:
            await stream.write(self._host.opened())
            ordered = OrderedStream(answer, stream.write, self._host.slots(), stream.take)
            frames = frames_of(stream, "frame")
            await ordered.run(frames, self._host.draining.wait(), transformer.wait_lost())
            if transformer.lost:
                raise await transformer.wait_lost()
            self._host.raise_if_draining()
        finally:
            await transformer.close()

    async def _open_transformer(self, opening: stage_pb2.BackboneOpen) -> StageStream:
        channel = self._channel(opening.downstream_node, opening.downstream_replica)
        context = stage_pb2.StreamContext()
        context.CopyFrom(opening.context)
        context.sender = self._host.node
        request = stage_pb2.TransformerRequest(
            open=stage_pb2.TransformerOpen(context=context, bundle_digest=self._host.bundle.digest)
        )
        peer = f"transformer on {opening.downstream_node}"
        return await StageStream.open(channel, Stage.TRANSFORMER, request, peer)

    def _channel(self, node: str, replica: int) -> grpc.aio.Channel:
        """To the transformer of this number on `node`."""
        own = f"backbone on {self._host.node}"
        if node not in self._transformers:
            known = ", ".join(sorted(self._transformers))
            raise PreconditionError(f"{own}: unknown downstream node {node!r}; known: {known}")
        replicas = self._transformers[node]
        if replica >= len(replicas):
            raise PreconditionError(
                f"{own}: there is no transformer {replica} on {node}; it knows {len(replicas)}, "
                "numbered from 0"
            )
        return replicas[replica]

    async def _ask(
        self,
        transformer: StageStream,
        node: str,
        frame: detector_pb2.Frame,
        features: FrameFeatures,
    ) -> stage_pb2.FrameResult:
        """What the transformer on `node` makes of a frame's features."""
        request = stage_pb2.TransformerRequest(
            features=stage_pb2.Features(
                frame_id=frame.frame_id,
                geometry=geometry_to_wire(features.geometry),
                tensor=tensor_to_wire(features.tensor),
            )
        )
        metrics = self._host.metrics
        metrics.count_bytes(node, "sent", len(features.tensor.data))
        result = await transformer.ask(request, frame.frame_id)
        checked_result(result, f"transformer on {node}", (Stage.TRANSFORMER,))
        metrics.stage_seconds.labels(Stage.TRANSFORMER.value, "transfer").observe(
            result.timing.transformer.transfer_seconds
        )
        return result
