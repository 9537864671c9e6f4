"""One session's streams to backbones: opened when needed, given up when they make no progress.

A stream has one codec from its opening to its end. When another one is wanted, a second stream is
opened along the same route: frames take the first one until that is open, and those in flight
finish there. So a change of codec is no pause, as a change of route is none.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, StreamOptions
from common.domain.errors import TandemError, UnavailableError
from common.domain.placement import ORCHESTRATOR, Stage, StageAddress
from common.wire.channels import ServerChannel
from common.wire.frames import codec_to_wire
from common.wire.placements import placement_to_wire
from common.wire.stage_client import Metadata, StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.route_stream import RouteStream


def _nothing_to_learn(route: Route, codec: Optional[Codec], stream: StageStream) -> None:
    """Nothing depends on what a backbone tells."""


# A codec whose stream could not be opened, while frames are served by another.
_REFUSED_SECONDS = 5.0
# A stream that was opened for frames to come waits for them at least so long.
_UNUSED_SECONDS = 2.0


class RouteStreams:
    """A stream for each route that the session's frames take.

    Usually one; two while the frames in flight on a left route come home, or while the next route
    is being prepared; and two on one route while its frames change from one codec to another.
    """

    def __init__(
        self,
        session_id: str,
        options: StreamOptions,
        channels: Mapping[StageAddress, ServerChannel],
        in_flight: Counter[StageAddress],
        extra_seconds: Optional[Dict[StageAddress, float]] = None,
        *,
        codec_for: Optional[Callable[[Route], Optional[Codec]]] = None,
        on_opened: Callable[[Route, Optional[Codec], StageStream], None] = _nothing_to_learn,
        frames_from: str = ORCHESTRATOR,
        metadata: Metadata = (),
    ) -> None:
        """Open nothing yet.

        Args:
            session_id: for the stages' logs.
            options: those of the client's stream.
            channels: to each backbone.
            in_flight: counts the frames of all sessions, by the stage that they are bound for.
            extra_seconds: adds up what large frames of all sessions may take, by backbone.
            codec_for: by which codec the next frame on a route travels; None: that of the options.
            on_opened: called with each stream that was opened, its route, and the codec that was
                asked for; what it learns may change what `codec_for` says.
            frames_from: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
            metadata: of the calls to the backbones.
        """
        self._session_id = session_id
        self._frames_from = frames_from
        self._metadata = metadata
        self._options = options
        self._channels = channels
        self._in_flight = in_flight
        self._extra_seconds = {} if extra_seconds is None else extra_seconds
        self._codec_for = codec_for or (lambda route: options.codec)
        self._on_opened = on_opened
        self._streams: Dict[Route, List[RouteStream]] = {}
        # Of each route, the stream that its latest frame took.
        self._latest: Dict[Route, RouteStream] = {}
        self._refused: Dict[Tuple[Route, Optional[Codec]], float] = {}

    def is_open(self, route: Route) -> bool:
        """Whether frames can be sent along a route at once."""
        return any(stream.open for stream in self._streams.get(route, ()))

    async def ask(
        self,
        route: Route,
        frame: detector_pb2.Frame,
        *,
        extra_seconds: float = 0.0,
        on_sent: Callable[[], None] = lambda: None,
    ) -> stage_pb2.FrameResult:
        """Send a frame along a route and wait for its result.

        Args:
            route: which one; opened first if it is not.
            frame: to be served.
            extra_seconds: that it may take since it is larger than those before.
            on_sent: called when the route is open and the frame about to be sent.

        Raises:
            TandemError: the route could not be opened, or failed while the frame was under way.
        """
        used = self._stream_to_use(route)
        with self._under_way(used, route, extra_seconds) as mark:
            try:
                # Shielded: that one frame is given up must not end the opening for the others.
                stream = await asyncio.shield(used.opening)
                on_sent()
                result = await stream.ask(stage_pb2.BackboneRequest(frame=frame), frame.frame_id)
            except TandemError as error:
                raise used.given_up or error from error
            except asyncio.CancelledError:
                # Giving a route up cancels its opening, or its call with the write that it is in.
                if used.given_up is not None:
                    raise used.given_up from None
                raise
            if mark is used.frames[0]:
                used.progress = time.monotonic()
            return result

    def _stream_to_use(self, route: Route) -> RouteStream:
        """The route's stream; a new one is opened if there is none, or none that goes on."""
        codec = self._codec_for(route)
        streams = self._streams[route] = [
            stream for stream in self._streams.get(route, ()) if not stream.ended or stream.frames
        ]
        going_on = [stream for stream in streams if not stream.ended]
        wanted = next((stream for stream in going_on if stream.codec is codec), None)
        ready = [stream for stream in going_on if stream.open]
        is_refused = self._refused.get((route, codec), 0.0) > time.monotonic()
        if wanted is None and not (ready and is_refused):
            wanted = self._begin(route, codec)
            streams.append(wanted)
        if wanted is None or (ready and not wanted.open):
            # Frames take the one before, until that one is open.
            latest = self._latest.get(route)
            wanted = latest if latest in ready else ready[-1]
        self._latest[route] = wanted
        return wanted

    def _begin(self, route: Route, codec: Optional[Codec]) -> RouteStream:
        """Begin to open a stream."""

        async def opened() -> StageStream:
            stream = await self._open(route, codec)
            chosen = self._codec_for(route)
            if codec is not None or chosen is None:
                return stream
            # Only the backbone's answer told what there is to choose from.
            await stream.close()
            begun.codec = chosen
            return await self._open(route, chosen)

        async def noted() -> StageStream:
            # Before the opening is done, and not in a callback: a frame may come between the two.
            self._refused[route, codec] = time.monotonic() + _REFUSED_SECONDS
            stream = await opened()
            self._refused.pop((route, codec), None)
            return stream

        begun = RouteStream(asyncio.ensure_future(noted()), codec)
        return begun

    @contextmanager
    def _under_way(self, used: RouteStream, route: Route, extra_seconds: float) -> Iterator[object]:
        """Count a frame while it is under way; gives its mark."""
        if not used.frames:
            used.progress = time.monotonic()
        mark = object()
        used.was_used = True
        used.frames.append(mark)
        self._in_flight.update(route.servers)
        self._add_extra(used, route, extra_seconds)
        try:
            yield mark
        finally:
            used.frames.remove(mark)
            self._in_flight.subtract(route.servers)
            self._add_extra(used, route, -extra_seconds)

    def _add_extra(self, used: RouteStream, route: Route, seconds: float) -> None:
        if seconds:
            used.extra_seconds += seconds
            total = self._extra_seconds.get(route.backbone, 0.0) + seconds
            self._extra_seconds[route.backbone] = total

    def extra_seconds(self, route: Route) -> float:
        """What a route's frames may have to wait since some are large; 0 if none of them is.

        Large frames wait for those of all other sessions at their backbone.
        """
        own = sum(stream.extra_seconds for stream in self._streams.get(route, ()))
        # Not exactly 0 when all are gone, since these are sums of floats.
        return 0.0 if own < 1e-3 else self._extra_seconds.get(route.backbone, 0.0)

    def without_progress(
        self, now: float, deadline_seconds: Mapping[Route, float]
    ) -> Sequence[Route]:
        """The routes whose frames have been waiting for the next answer for too long.

        Args:
            now: by `time.monotonic`.
            deadline_seconds: how long they may wait, for each route.
        """
        return [
            route
            for route, streams in self._streams.items()
            if any(
                stream.frames
                and stream.given_up is None
                and now - stream.progress > deadline_seconds[route]
                for stream in streams
            )
        ]

    def give_up(self, route: Route, reason: str) -> None:
        """Fail the frames under way on a route, so that they can be sent elsewhere."""
        for stream in self._streams.get(route, ()):
            if not stream.ended:
                stream.give_up(UnavailableError(reason))

    @property
    def routes(self) -> Sequence[Route]:
        """The routes that streams are open on, or being opened."""
        return tuple(route for route, streams in self._streams.items() if streams)

    async def leave_idle(self, since: float, *kept: Route) -> None:
        """Close the streams that no frame has been on since then.

        On the `kept` routes the stream stays that their latest frames took.
        """
        staying = [self._latest.get(route) for route in kept]
        unused_since = min(since, time.monotonic() - _UNUSED_SECONDS)
        left: List[RouteStream] = []
        for route, streams in tuple(self._streams.items()):
            leaving = [
                stream
                for stream in streams
                if stream not in staying
                and stream.is_idle
                and stream.progress <= (since if stream.was_used else unused_since)
            ]
            left += leaving
            streams[:] = [stream for stream in streams if stream not in leaving]
            if not streams:
                del self._streams[route]
                self._latest.pop(route, None)
        if left:
            await _close_all(left)

    async def close(self) -> None:
        """Close every route."""
        streams = [stream for each in self._streams.values() for stream in each]
        self._streams.clear()
        self._latest.clear()
        await _close_all(streams)

    async def _open(self, route: Route, codec: Optional[Codec]) -> StageStream:
        stream = await StageStream.open(
            self._channels[route.backbone].current,
            Stage.BACKBONE,
            stage_pb2.BackboneRequest(open=self._opening(route, codec)),
            route.backbone.name,
            self._metadata,
        )
        self._on_opened(route, codec, stream)
        return stream

    def _opening(self, route: Route, codec: Optional[Codec]) -> stage_pb2.BackboneOpen:
        context = stage_pb2.StreamContext(
            session_id=self._session_id,
            placement=placement_to_wire(route.node_pair.placement),
            max_detections=self._options.max_detections,
            sender=ORCHESTRATOR,
            frames_from=self._frames_from,
        )
        if self._options.score_threshold != DEFAULT_SCORE_THRESHOLD:
            context.score_threshold = self._options.score_threshold
        return stage_pb2.BackboneOpen(
            context=context,
            downstream_node=route.transformer.node,
            downstream_replica=route.transformer.replica,
            codec=codec_to_wire(codec),
        )


async def _close_all(entries: Sequence[RouteStream]) -> None:
    for entry in entries:
        entry.opening.cancel()
    for stream in await asyncio.gather(*(each.opening for each in entries), return_exceptions=True):
        if isinstance(stream, StageStream):
            await stream.close()
