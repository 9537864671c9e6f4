"""Opens the streams of one session: what a backbone is told first, and on which terms."""

from __future__ import annotations

import asyncio
import time
from typing import Callable, Dict, Mapping, Optional, Tuple

from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, StreamOptions
from common.domain.errors import PreconditionError, UnavailableError
from common.domain.models import DEFAULT_MODEL
from common.domain.placement import ORCHESTRATOR, Stage, StageAddress
from common.wire.channels import ServerChannel
from common.wire.frames import codec_to_wire
from common.wire.message_sizes import message_bytes_metadata
from common.wire.placements import placement_to_wire
from common.wire.stage_client import Metadata, StageStream
from common.wire.video import video_to_wire
from protos.tandem.v1 import stage_pb2
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.frame_encoding import FrameEncoder, FrameEncoding
from services.orchestrator.session.route_stream import RouteStream, StreamTerms

# A codec whose stream could not be opened, while frames are served by another.
_REFUSED_SECONDS = 5.0


def nothing_to_learn(route: Route, codec: Optional[Codec], stream: StageStream) -> None:
    """Nothing depends on what a backbone tells."""


class BackboneOpening:
    """Makes the opening messages of one session's streams."""

    def __init__(
        self,
        session_id: str,
        options: StreamOptions,
        frames_from: str,
        encoding: Optional[FrameEncoding] = None,
    ) -> None:
        """Take what all of them have in common.

        Args:
            session_id: for the stages' logs.
            options: those of the client's stream.
            frames_from: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
            encoding: of pictures that cross a link; None: they are sent as they came.
        """
        self._encoding = encoding
        self._session_id = session_id
        self._options = options
        self._frames_from = frames_from

    def encoding(self, route: Route) -> Optional[FrameEncoding]:
        """How frames are encoded before they are sent along a route; None: not at all."""
        crosses_link = route.backbone.node != self._frames_from
        return self._encoding if crosses_link and self._options.video is None else None

    def request(self, route: Route, terms: StreamTerms) -> stage_pb2.BackboneRequest:
        """The first message of a stream along a route.

        Raises:
            PreconditionError: the stages would have to choose the bundle themselves, and would take
                that of another model.
        """
        model = self._options.model
        if model != DEFAULT_MODEL and terms.bundle is None:
            raise PreconditionError(
                f"{route.node_pair.name} has no bundle of the model {model} that both halves serve"
            )
        context = stage_pb2.StreamContext(
            session_id=self._session_id,
            placement=placement_to_wire(route.node_pair.placement),
            max_detections=self._options.max_detections,
            sender=ORCHESTRATOR,
            frames_from=self._frames_from,
        )
        if self._options.score_threshold != DEFAULT_SCORE_THRESHOLD:
            context.score_threshold = self._options.score_threshold
        encoding = self.encoding(route)
        opening = stage_pb2.BackboneOpen(
            context=context,
            downstream_node=route.transformer.node,
            downstream_replica=route.transformer.replica,
            downstream_address=route.transformer.address if route.transformer.found_by else "",
            codec=codec_to_wire(terms.codec),
            bundle_digest=terms.bundle or "",
            video=video_to_wire(encoding.video if encoding else self._options.video),
        )
        return stage_pb2.BackboneRequest(open=opening)


class StreamOpener:
    """Opens streams along routes."""

    def __init__(
        self,
        opening: BackboneOpening,
        channels: Mapping[StageAddress, ServerChannel],
        terms_for: Callable[[Route], StreamTerms],
        on_opened: Callable[[Route, Optional[Codec], StageStream], None],
        *,
        metadata: Metadata = (),
        message_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """Open nothing yet.

        Args:
            opening: makes the first message.
            channels: to each backbone.
            terms_for: what the next frame on a route wants of its stream.
            on_opened: called with each stream that was opened, its route, and the codec that was
                asked for; what it learns may change what `terms_for` says.
            metadata: of the calls to the backbones.
            message_bytes: tells the size of the largest frame so far; 0 if none has come.
        """
        self._message_bytes = message_bytes
        self._opening = opening
        self._channels = channels
        self._terms_for = terms_for
        self._on_opened = on_opened
        self._metadata = metadata
        self._refused: Dict[Tuple[Route, StreamTerms], float] = {}

    def is_refused(self, route: Route, terms: StreamTerms) -> bool:
        """Whether no stream of these terms could be opened a moment ago."""
        return self._refused.get((route, terms), 0.0) > time.monotonic()

    def begin(self, route: Route, terms: StreamTerms) -> RouteStream:
        """Begin to open a stream."""

        async def opened() -> StageStream:
            stream = await self._open_matching(route, begun)
            chosen = self._terms_for(route).codec
            if begun.terms.codec is not None or chosen is None:
                return stream
            # Only the backbone's answer told what there is to choose from.
            await stream.close()
            begun.terms = begun.terms._replace(codec=chosen)
            return await self._open(route, begun)

        async def noted() -> StageStream:
            # Before the opening is done, and not in a callback: a frame may come between the two.
            self._refused[route, terms] = time.monotonic() + _REFUSED_SECONDS
            stream = await opened()
            actual = stream.bundle_digest or None
            begun.terms = begun.terms._replace(bundle=actual)
            if terms.bundle in (None, actual):
                self._refused.pop((route, terms), None)
            return stream

        begun = RouteStream(asyncio.ensure_future(noted()), terms)
        encoding = self._opening.encoding(route)
        if encoding is not None:
            begun.encoder = FrameEncoder(encoding, begun.opening)
        return begun

    def server_removed(self, server: StageAddress) -> None:
        """A server is gone, and with it its routes."""
        for route, terms in [each for each in self._refused if each[0].uses(server)]:
            del self._refused[route, terms]

    async def _open_matching(self, route: Route, begun: RouteStream) -> StageStream:
        """Open a stream with the bundle that is wanted, or that the stages have by now.

        What is known of the stages is a moment old.
        """
        try:
            return await self._open(route, begun)
        except PreconditionError:
            bundle = self._terms_for(route).bundle
            if begun.terms.bundle is None:
                raise
            begun.terms = begun.terms._replace(
                bundle=bundle if bundle != begun.terms.bundle else None
            )
            return await self._open(route, begun)

    async def _open(self, route: Route, begun: RouteStream) -> StageStream:
        channel = self._channels.get(route.backbone)
        if channel is None:
            raise UnavailableError(f"{route.backbone.name} is gone")
        terms = begun.terms
        async with channel.openings:
            # That others were opened first is no fault of the route.
            begun.progress = time.monotonic()
            stream = await StageStream.open(
                channel.current,
                Stage.BACKBONE,
                self._opening.request(route, terms),
                route.backbone.name,
                (*self._metadata, *message_bytes_metadata(self._message_bytes())),
            )
        self._on_opened(route, terms.codec, stream)
        return stream
