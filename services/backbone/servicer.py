"""`Backbone.Process`: streams through the backbone stage, chained to a transformer's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Optional, Tuple

from common.codec import KeyReason, LatentEncoder
from common.domain.codec import Codec, EncodedFeatures
from common.domain.detections import StageTiming
from common.domain.errors import ReferenceMissingError
from common.domain.frames import Image
from common.domain.placement import NodePair, Stage
from common.server.authorization import calling_identity
from common.server.guard import GuardedStream
from common.server.traced_calls import tell_answer
from common.telemetry.tracing import Span
from common.wire.detections import add_category_names, checked_result
from common.wire.errors import error_from_wire
from common.wire.frames import (
    codec_from_wire,
    codec_to_wire,
    features_to_wire,
    image_bytes,
    image_from_wire,
)
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2, stage_pb2_grpc
from services.backbone.pictures import Picture
from services.backbone.places import FramePlaces
from services.backbone.stage import BackboneStage, Encoding, FrameFeatures, KeptLatents
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

BackbonePipeline = Pipeline[Image, Picture, Encoding, FrameFeatures]


class BackboneServicer(stage_pb2_grpc.BackboneServicer):
    """Frames in, detections out, by way of the transformer that the opening message names."""

    def __init__(
        self,
        host: StageHost,
        stage: BackboneStage,
        pipeline: BackbonePipeline,
        transformers: Transformers,
        places: FramePlaces,
    ) -> None:
        """Serve frames of `places` by `stage` and `pipeline`; features go to `transformers`."""
        self._host = host
        self._stage = stage
        self._pipeline = pipeline
        self._transformers = transformers
        self._places = places

    async def Process(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See stage.proto."""
        await self._host.guard.run(request_iterator, context, self._serve)

    async def _serve(self, stream: GuardedStream) -> None:
        opening = await opening_of(stream)
        self._places.require(opening.context.frames_from, calling_identity())
        nodes = NodePair(self._host.node, opening.downstream_node)
        sender = self._host.senders.label(sender_of(opening.context))
        facts = StreamFacts.of(opening.context, nodes, sender)
        codec = self._stage.usable_codec(codec_from_wire(opening.codec))
        stream.account.keep(self._stage.kept_bytes(codec))
        transformer = await self._transformers.open(
            opening,
            self._host.bundle.digest,
            self._host.traces.stream(stream.metadata).metadata,
        )
        frames = BackboneStream(
            *(self._host, facts, stream),
            pipeline=self._pipeline,
            codec=codec,
            latents=self._stage.latent_encoder(codec, self._count_key_frame),
            transformer=transformer,
        )
        await frames.serve()

    def _count_key_frame(self, reason: KeyReason) -> None:
        self._host.metrics.key_frames.labels(reason.value).inc()


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
        latents: Optional[LatentEncoder],
        transformer: StageStream,
    ) -> None:
        """Serve `stream`; its features travel by `codec` to `transformer`, which is closed after.

        Args:
            host: see `FrameStream`.
            facts: see `FrameStream`.
            stream: see `FrameStream`.
            pipeline: takes each frame to its features.
            codec: of the features.
            latents: codes the stream's latents, if the codec is one of latents.
            transformer: gets the features.
        """
        super().__init__(host, facts, stream)
        self._category_names = {each.id: each.name for each in host.bundle.manifest.categories}
        self._pipeline = pipeline
        self._codec = codec
        self._latents = latents
        # Each frame's latents are coded given those of the frame before, and sent in this order.
        self._in_order = None if latents is None else pipeline.strand(stream)
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

    def tell(self, opened: stage_pb2.Opened) -> None:
        """See `FrameStream.tell`."""
        opened.codec = codec_to_wire(self._codec)

    async def result_of(
        self, frame: detector_pb2.Frame, span: Span
    ) -> Tuple[stage_pb2.FrameResult, StageTiming]:
        """See `FrameStream.result_of`."""
        encoding = Encoding(frame.frame_id, self._codec, self._latents)
        features = await self._pipeline.run(
            *(self.stream, image_from_wire(frame), encoding), finishing=self._in_order
        )
        span.tell(codec=self._codec.value)
        result = await self._ask_transformer(features.encoded, span)
        if features.kept is not None and _lacks_reference(result):
            result = await self._ask_again(features.kept, result, span)
        result.frame_id = frame.frame_id
        return result, replace(features.timing, codec=self._codec)

    async def _ask_again(
        self, kept: KeptLatents, first: stage_pb2.FrameResult, span: Span
    ) -> stage_pb2.FrameResult:
        """Have a frame's latents coded alone, and send them: the transformer lacks what they need.

        Once, since nothing can be missing then.
        """
        encoded = await self._encoded_again(kept)
        result = await self._ask_transformer(encoded, span)
        # What the frame cost is what both of its ways cost.
        timing = result.timing.transformer
        timing.request_bytes += first.timing.transformer.request_bytes
        timing.transfer_seconds += first.timing.transformer.transfer_seconds
        return result

    async def _encoded_again(self, kept: KeptLatents) -> EncodedFeatures:
        if self._latents is None or self._in_order is None:
            raise ValueError("the stream has no latents")
        again = partial(self._latents.encode_again, kept.latents, kept.geometry)
        return await self._in_order.call(again)

    async def _ask_transformer(
        self, features: EncodedFeatures, span: Span
    ) -> stage_pb2.FrameResult:
        node, metrics = self.facts.nodes.transformer, self.host.metrics
        wire, size_bytes = features_to_wire(features), len(features.tensor.data)
        metrics.count_bytes(node, "sent", size_bytes)
        with span.call("transfer", node=node, request_bytes=size_bytes) as call:
            wire.traceparent = call.traceparent
            request = stage_pb2.TransformerRequest(features=wire)
            result = await self._transformer.ask(request, features.frame_id)
            checked_result(result, f"transformer on {node}", (Stage.TRANSFORMER,))
            seconds = result.timing.transformer.transfer_seconds
            call.tell(transfer_seconds=seconds)
            tell_answer(call, result)
        add_category_names(result.detections, self._category_names)
        metrics.observe_transfer(Stage.TRANSFORMER.value, seconds, span)
        return result


def _lacks_reference(result: stage_pb2.FrameResult) -> bool:
    if result.WhichOneof("result") != "error":
        return False
    return isinstance(error_from_wire(result.error), ReferenceMissingError)
