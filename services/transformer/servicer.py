"""`Transformer.Process`: streams through the transformer stage."""

from __future__ import annotations

from functools import partial
from typing import Any, AsyncIterator

from common.domain.codec import LATENT_CODECS
from common.domain.detections import DetectionOptions
from common.domain.errors import PreconditionError
from common.domain.placement import NodePair
from common.server.guard import GuardedStream
from common.wire.detections import detections_to_wire
from common.wire.feature_messages import FeatureMessageReader
from common.wire.frames import features_from_wire
from protos.tandem.v1 import stage_pb2, stage_pb2_grpc
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
from services.transformer.stage import (
    ArrivedFeatures,
    DecodedFeatures,
    FrameDetections,
    TransformerStage,
)

TransformerPipeline = Pipeline[ArrivedFeatures, DecodedFeatures, DetectionOptions, FrameDetections]


class TransformerServicer(stage_pb2_grpc.TransformerServicer):
    """Features in, detections out."""

    def __init__(self, host: StageHost[TransformerStage]) -> None:
        """Serve the bundles of `host`."""
        self._host = host

    async def Process(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """See stage.proto."""
        await self._host.guard.run(request_iterator, context, self._serve)

    async def _serve(self, stream: GuardedStream) -> None:
        opening = await opening_of(stream)
        self._check_bundle(opening.bundle_digest, sender_of(opening.context))
        with self._host.bundles.stream_of(opening.bundle_digest) as loaded:
            loaded.pipeline.require_able()
            sender = self._host.senders.label(sender_of(opening.context))
            facts = StreamFacts.of(opening.context, NodePair(sender, self._host.node), sender)
            stream.account.cost = loaded.cost
            stream.account.keep(loaded.core.kept_bytes)
            self._host.bundles.opened(loaded)
            frames = TransformerStream(
                *(self._host, loaded, facts, stream), names=not opening.without_category_names
            )
            await frames.serve()

    def _check_bundle(self, digest: str, sender: str) -> None:
        bundles = self._host.bundles
        if bundles.find(digest) is None:
            own = " and ".join(each.bundle.digest for each in bundles.loaded)
            raise PreconditionError(
                f"the halves are of different bundles: backbone on {sender} runs {digest}, "
                f"transformer on {self._host.node} runs {own}"
            )


class TransformerStream(FrameStream):
    """One stream of features, which the pipeline turns into detections."""

    def __init__(
        self,
        host: StageHost[TransformerStage],
        loaded: LoadedBundle[TransformerStage],
        facts: StreamFacts,
        stream: GuardedStream,
        *,
        names: bool,
    ) -> None:
        """Serve `stream` with a bundle; answer with categories' `names` or without.

        For the other arguments see `FrameStream`.
        """
        super().__init__(host, loaded.bundle, facts, stream)
        self._pipeline: TransformerPipeline = loaded.pipeline
        self._names = names
        self._latents = loaded.core.latent_decoder()
        # Each frame's latents are decoded given those of the frame before.
        self._in_order = self._pipeline.strand(stream)

    async def serve(self) -> None:
        """Serve the stream to its end.

        Raises:
            TandemError: a message is no frame, or this service drains.
        """
        await self.agree()
        await self.ordered().run(self.frames(), self.host.draining.wait())
        self.host.raise_if_draining()

    def tell(self, opened: stage_pb2.Opened) -> None:
        """See `FrameStream.tell`."""
        opened.takes_next_latents = True

    async def frames(self) -> AsyncIterator[stage_pb2.Features]:
        """See `FrameStream.frames`; short messages are given at full length."""
        reader = FeatureMessageReader()
        async for request in self.stream:
            yield reader.features(request)
            # The request may be large, and the next one may take long to come.
            del request

    def size_bytes(self, frame: stage_pb2.Features) -> int:
        """See `FrameStream.size_bytes`."""
        return sum(len(tensor.data) for tensor in (frame.tensor, *frame.further_tensors))

    def serve_frame(self, frame: stage_pb2.Features, under_way: FrameUnderWay) -> None:
        """See `FrameStream.serve_frame`."""
        encoded = features_from_wire(frame)
        under_way.span.tell(codec=encoded.codec.value)
        is_latent = encoded.codec in LATENT_CODECS
        arrived = ArrivedFeatures(encoded, self._latents)
        under_way.passage = self._pipeline.begin(
            *(self.stream, arrived, self.facts.options, partial(self.passed, under_way)),
            preparing=self._in_order if is_latent else None,
        )

    def go_on(self, under_way: FrameUnderWay, outcome: FrameDetections) -> None:
        """See `FrameStream.go_on`."""
        detections = detections_to_wire(outcome.detections, names=self._names)
        result = stage_pb2.FrameResult(frame_id=under_way.frame_id, detections=detections)
        under_way.served(result, outcome.timing)
