"""`Transformer.Process`: streams around the transformer stage."""

from __future__ import annotations

from typing import Any, Hashable, Tuple

from common.domain.detections import StageTiming
from common.domain.errors import PreconditionError
from common.domain.placement import NodePair
from common.server.guard import GuardedStream
from common.server.stream import OrderedStream
from common.wire.detections import detections_to_wire
from common.wire.frames import geometry_from_wire, tensor_from_wire
from protos.tandem.v1 import stage_pb2, stage_pb2_grpc
from services.pipeline.servicing import (
    Context,
    StageHost,
    StreamFacts,
    answer_frame,
    frames_of,
    opening_of,
)
from services.transformer.stage import TransformerStage


class TransformerServicer(stage_pb2_grpc.TransformerServicer):
    """Features in, detections out."""

    def __init__(self, host: StageHost, stage: TransformerStage) -> None:
        """Serve `stage`."""
        self._host = host
        self._stage = stage

    async def Process(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See stage.proto."""
        await self._host.guard.run(request_iterator, context, self._serve)

    async def _serve(self, stream: GuardedStream) -> None:
        opening = await opening_of(stream)
        self._check_bundle(opening.bundle_digest, opening.context.sender)
        sender = self._host.senders.label(opening.context.sender)
        facts = StreamFacts.of(opening.context, NodePair(sender, self._host.node), sender)

        async def answer(request: stage_pb2.TransformerRequest) -> stage_pb2.StageResponse:
            features = request.features

            async def work() -> Tuple[stage_pb2.FrameResult, StageTiming]:
                return await self._detect(features, facts, stream)

            return await answer_frame(
                self._host, facts, features.frame_id, len(features.tensor.data), work
            )

        await stream.write(self._host.opened())
        ordered = OrderedStream(answer, stream.write, self._host.slots(), stream.take)
        await ordered.run(frames_of(stream, "features"), self._host.draining.wait())
        self._host.raise_if_draining()

    def _check_bundle(self, digest: str, sender: str) -> None:
        own = self._host.bundle.digest
        if digest != own:
            raise PreconditionError(
                f"the halves are of different bundles: backbone on {sender} runs {digest}, "
                f"transformer on {self._host.node} runs {own}"
            )

    async def _detect(
        self, features: stage_pb2.Features, facts: StreamFacts, stream: Hashable
    ) -> Tuple[stage_pb2.FrameResult, StageTiming]:
        found = await self._stage.compute(
            tensor_from_wire(features.tensor),
            geometry_from_wire(features.geometry),
            facts.options,
            stream,
        )
        result = stage_pb2.FrameResult(
            frame_id=features.frame_id, detections=detections_to_wire(found.detections)
        )
        return result, found.timing
