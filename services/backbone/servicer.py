"""`Backbone.Process`: streams through the backbone stage, chained to a transformer's."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, AsyncIterator, Optional, Set

from common.codec import KeyReason, LatentEncoder
from common.domain.codec import Codec, EncodedFeatures
from common.domain.errors import InvalidInputError
from common.domain.placement import NodePair
from common.domain.video import AccessUnit
from common.server.account import Charge
from common.server.authorization import calling_identity
from common.server.guard import GuardedStream
from common.wire.feature_messages import FeatureMessages
from common.wire.frames import (
    codec_from_wire,
    codec_to_wire,
    content_bytes,
    content_from_wire,
)
from common.wire.message_sizes import message_bytes_metadata
from common.wire.stage_client import StageStream
from common.wire.video import optional_video_from_wire
from protos.tandem.v1 import detector_pb2, stage_pb2, stage_pb2_grpc
from services.backbone.pictures import Picture
from services.backbone.places import FramePlaces
from services.backbone.question import Question
from services.backbone.stage import BackboneStage, Content, Encoding, FrameFeatures, KeptLatents
from services.backbone.transformers import Transformers
from services.backbone.video import VideoFrame, VideoStream, VideoStreams
from services.pipeline.frame_stream import (
    Context,
    FrameStream,
    StageHost,
    StreamFacts,
    opening_of,
    sender_of,
)
from services.pipeline.frame_under_way import FrameUnderWay
from services.pipeline.loaded_bundle import LoadedBundle
from services.pipeline.passage import Pipeline
from services.pipeline.strand import Told

# Of one stream, frames that are only decoded and that wait for their turn.
_MOST_DECODED_AT_ONCE = 32

BackbonePipeline = Pipeline[Content, Picture, Encoding, FrameFeatures]


class BackboneServicer(stage_pb2_grpc.BackboneServicer):
    """Frames in, detections out, by way of the transformer that the opening message names."""

    def __init__(
        self,
        host: StageHost[BackboneStage],
        *,
        transformers: Transformers,
        places: FramePlaces,
        video: VideoStreams,
    ) -> None:
        """Serve frames of `places`.

        Args:
            host: see `FrameStream`.
            transformers: get the features.
            places: whose frames are served.
            video: decodes frames of video.
        """
        self._host = host
        self._transformers = transformers
        self._places = places
        self._video = video

    async def Process(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See stage.proto."""
        await self._host.guard.run(request_iterator, context, self._serve)

    async def _serve(self, stream: GuardedStream) -> None:
        opening = await opening_of(stream)
        self._places.require(opening.context.frames_from, calling_identity())
        with self._host.bundles.stream_of(opening.bundle_digest) as loaded:
            loaded.pipeline.require_able()
            await self._serve_with(loaded, opening, stream)

    async def _serve_with(
        self,
        loaded: LoadedBundle[BackboneStage],
        opening: stage_pb2.BackboneOpen,
        stream: GuardedStream,
    ) -> None:
        stage = loaded.core
        nodes = NodePair(self._host.node, opening.downstream_node)
        sender = self._host.senders.label(sender_of(opening.context))
        facts = StreamFacts.of(opening.context, nodes, sender)
        codec = stage.usable_codec(codec_from_wire(opening.codec))
        stream.account.cost = loaded.cost
        stream.account.keep(stage.kept_bytes(codec))
        video = optional_video_from_wire(opening)
        decoder = None if video is None else self._video.open(video, stage.pictures)
        try:
            transformer = await self._transformers.open(
                opening,
                loaded.bundle.digest,
                (
                    *self._host.traces.stream(stream.metadata).metadata,
                    *message_bytes_metadata(stage.sent_bytes(codec)),
                ),
            )
            self._host.bundles.opened(loaded)
            frames = BackboneStream(
                *(self._host, loaded, facts, stream),
                codec=codec,
                latents=stage.latent_encoder(codec, self._count_key_frame),
                transformer=transformer,
                decoder=decoder,
            )
            await frames.serve()
        finally:
            if decoder is not None:
                await self._close(decoder)

    async def _close(self, decoder: VideoStream) -> None:
        """Its place is free once its process has ended, also if the stream is cancelled now."""
        closing = asyncio.get_running_loop().run_in_executor(None, decoder.close)
        closing.add_done_callback(lambda _: self._video.leave(decoder))
        await asyncio.shield(closing)

    def _count_key_frame(self, reason: KeyReason) -> None:
        self._host.metrics.key_frames.labels(reason.value).inc()


class BackboneStream(FrameStream):
    """One stream of frames, each served by the pipeline and then by a transformer.

    Attributes:
        codec: of its features.
        transformer: gets them.
        messages: in which it gets them.
        category_names: of its bundle's categories, by their ids.
    """

    def __init__(
        self,
        host: StageHost[BackboneStage],
        loaded: LoadedBundle[BackboneStage],
        facts: StreamFacts,
        stream: GuardedStream,
        *,
        codec: Codec,
        latents: Optional[LatentEncoder],
        transformer: StageStream,
        decoder: Optional[VideoStream] = None,
    ) -> None:
        """Serve `stream`; its features travel by `codec` to `transformer`, which is closed after.

        Args:
            host: see `FrameStream`.
            loaded: the bundle that its frames are served with.
            facts: see `FrameStream`.
            stream: see `FrameStream`.
            codec: of the features.
            latents: codes the stream's latents, if the codec is one of latents.
            transformer: gets the features.
            decoder: of frames that are access units; closed by the caller. None: they are pictures.
        """
        super().__init__(host, loaded.bundle, facts, stream)
        self.category_names = {each.id: each.name for each in loaded.bundle.manifest.categories}
        self._pipeline: BackbonePipeline = loaded.pipeline
        self.codec = codec
        self._latents = latents
        # Each frame's latents are coded given those of the frame before, and sent in this order.
        self._in_order = None if latents is None else self._pipeline.strand(stream)
        self.transformer = transformer
        self.messages = FeatureMessages(transformer.takes_next_latents)
        self._decoder = decoder
        self._decoding: Set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Serve the stream to its end; it ends, too, when the one to its transformer does.

        Raises:
            TandemError: a message is no frame, the transformer was lost, or this service drains.
        """
        try:
            await self.agree()
            draining, lost = self.host.draining.wait(), self.transformer.wait_lost()
            await self.ordered().run(self.frames(), draining, lost)
            if self.transformer.lost:
                raise await self.transformer.wait_lost()
            self.host.raise_if_draining()
        finally:
            for decoding in tuple(self._decoding):
                decoding.cancel()
            await self.transformer.close()

    def size_bytes(self, frame: detector_pb2.Frame) -> int:
        """See `FrameStream.size_bytes`."""
        return content_bytes(frame)

    def tell(self, opened: stage_pb2.Opened) -> None:
        """See `FrameStream.tell`."""
        opened.codec = codec_to_wire(self.codec)

    def serve_frame(self, frame: detector_pb2.Frame, under_way: FrameUnderWay) -> None:
        """See `FrameStream.serve_frame`."""
        encoding = Encoding(frame.frame_id, self.codec, self._latents)
        under_way.passage = self._pipeline.begin(
            *(self.stream, self._content(frame), encoding, partial(self.passed, under_way)),
            preparing=None if self._decoder is None else self._decoder.strand,
            finishing=self._in_order,
        )

    def go_on(self, under_way: FrameUnderWay, outcome: FrameFeatures) -> None:
        """See `FrameStream.go_on`."""
        under_way.span.tell(codec=self.codec.value)
        Question(self, under_way, outcome).ask(outcome.encoded)

    def _content(self, frame: detector_pb2.Frame) -> Content:
        video = None if self._decoder is None else self._decoder.video
        content = content_from_wire(frame, video)
        if not isinstance(content, AccessUnit):
            return content
        if self._decoder is None:
            raise ValueError("the stream has no decoder")
        return VideoFrame(content, self._decoder)

    async def frames(self) -> AsyncIterator[detector_pb2.Frame]:
        """See `FrameStream.frames`; those that are only decoded are, and are left out.

        Raises:
            InvalidInputError: a message is no frame.
        """
        async for request in self.stream:
            kind = request.WhichOneof("request")
            if kind == "decode_only":
                await self._begin_decoding(request.decode_only)
            elif kind == "frame":
                yield request.frame
            else:
                raise InvalidInputError(
                    "every message after `open` has to be `frame` or `decode_only`"
                )
            # The request may be large, and the next one may take long to come.
            del request

    async def _begin_decoding(self, frame: detector_pb2.Frame) -> None:
        """Decode a frame of which nobody is told anything, while the next ones are read.

        What is not read would seem to be on the link still.
        """
        decoding = asyncio.ensure_future(self._decode_only(frame, self.stream.take()))
        self._decoding.add(decoding)
        decoding.add_done_callback(self._decoding.discard)
        if len(self._decoding) >= _MOST_DECODED_AT_ONCE:
            await asyncio.wait(self._decoding, return_when=asyncio.FIRST_COMPLETED)

    async def _decode_only(self, frame: detector_pb2.Frame, charge: Charge) -> None:
        """Decode a frame; later ones fail if they miss it."""
        self.host.metrics.count_bytes(self.facts.sender, "received", content_bytes(frame))
        try:
            content = self._content(frame)
            if not isinstance(content, VideoFrame):
                raise InvalidInputError("only video can be decoded without a result")
            # The frames before have their places on the strand: their tasks were begun first.
            await content.stream.strand.call(partial(content.stream.follow, content.unit))
        except Exception as error:
            self.log_failure(frame.frame_id, error)
        finally:
            charge.release()

    def encode_again(self, kept: KeptLatents, tell: Told[EncodedFeatures]) -> None:
        """Have a frame's latents coded alone; `tell` gets them on the event loop."""
        if self._latents is None or self._in_order is None:
            raise ValueError("the stream has no latents")
        again = partial(self._latents.encode_again, kept.latents, kept.geometry)
        self._in_order.begin(again, tell)
