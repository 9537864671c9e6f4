"""Opens the streams of one session: what a backbone is told first, and by which codec."""

from __future__ import annotations

import asyncio
import time
from typing import Callable, Dict, Mapping, Optional, Tuple

from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, StreamOptions
from common.domain.errors import UnavailableError
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
from services.orchestrator.session.route_stream import RouteStream

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

    def request(self, route: Route, codec: Optional[Codec]) -> stage_pb2.BackboneRequest:
        """The first message of a stream along a route, whose features travel by this codec."""
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
            codec=codec_to_wire(codec),
            video=video_to_wire(encoding.video if encoding else self._options.video),
        )
        return stage_pb2.BackboneRequest(open=opening)


class StreamOpener:
    """Opens streams along routes."""

    def __init__(
        self,
        opening: BackboneOpening,
        channels: Mapping[StageAddress, ServerChannel],
        codec_for: Callable[[Route], Optional[Codec]],
        on_opened: Callable[[Route, Optional[Codec], StageStream], None],
        *,
        metadata: Metadata = (),
        message_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """Open nothing yet.

        Args:
            opening: makes the first message.
            channels: to each backbone.
            codec_for: by which codec the next frame on a route travels.
            on_opened: called with each stream that was opened, its route, and the codec that was
                asked for; what it learns may change what `codec_for` says.
            metadata: of the calls to the backbones.
            message_bytes: tells the size of the largest frame so far; 0 if none has come.
        """
        self._message_bytes = message_bytes
        self._opening = opening
        self._channels = channels
        self._codec_for = codec_for
        self._on_opened = on_opened
        self._metadata = metadata
        self._refused: Dict[Tuple[Route, Optional[Codec]], float] = {}

    def is_refused(self, route: Route, codec: Optional[Codec]) -> bool:
        """Whether no stream of this codec could be opened a moment ago."""
        return self._refused.get((route, codec), 0.0) > time.monotonic()

    def begin(self, route: Route, codec: Optional[Codec]) -> RouteStream:
        """Begin to open a stream."""

        def begins() -> None:
            # That others were opened first is no fault of the route.
            begun.progress = time.monotonic()

        async def opened() -> StageStream:
            stream = await self._open(route, codec, begins)
            chosen = self._codec_for(route)
            if codec is not None or chosen is None:
                return stream
            # Only the backbone's answer told what there is to choose from.
            await stream.close()
            begun.codec = chosen
            return await self._open(route, chosen, begins)

        async def noted() -> StageStream:
            # Before the opening is done, and not in a callback: a frame may come between the two.
            self._refused[route, codec] = time.monotonic() + _REFUSED_SECONDS
            stream = await opened()
            self._refused.pop((route, codec), None)
            return stream

        begun = RouteStream(asyncio.ensure_future(noted()), codec)
        encoding = self._opening.encoding(route)
        if encoding is not None:
            begun.encoder = FrameEncoder(encoding, begun.opening)
        return begun

    def server_removed(self, server: StageAddress) -> None:
        """A server is gone, and with it its routes."""
        for route, codec in [each for each in self._refused if each[0].uses(server)]:
            del self._refused[route, codec]

    async def _open(
        self, route: Route, codec: Optional[Codec], on_turn: Callable[[], None]
    ) -> StageStream:
        channel = self._channels.get(route.backbone)
        if channel is None:
            raise UnavailableError(f"{route.backbone.name} is gone")
        async with channel.openings:
            on_turn()
            stream = await StageStream.open(
                channel.current,
                Stage.BACKBONE,
                self._opening.request(route, codec),
                route.backbone.name,
                (*self._metadata, *message_bytes_metadata(self._message_bytes())),
            )
        self._on_opened(route, codec, stream)
        return stream
