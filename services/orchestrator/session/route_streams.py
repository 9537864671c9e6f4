"""One session's streams to backbones: opened when needed, given up when they make no progress.

A stream has one codec and one bundle from its opening to its end. When another one is wanted, a
second stream is opened along the same route: frames take the first one until that is open, and
those in flight finish there. So a change of codec or bundle is no pause, as a change of route is
none.

At the end of a stream of video is a decoder, which needs every frame of a group, in order. It is
sent what it lacks before each frame. A frame that it is past takes another stream along the same
route, since nothing can be decoded twice by one decoder.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from common.domain.codec import Codec
from common.domain.detections import StreamOptions
from common.domain.errors import TandemError, UnavailableError
from common.domain.placement import ORCHESTRATOR, StageAddress
from common.wire.channels import ServerChannel
from common.wire.errors import error_from_wire
from common.wire.stage_client import Metadata, StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.frame_encoding import FrameEncoding
from services.orchestrator.session.groups import NOTHING, Lack, Place
from services.orchestrator.session.opening import (
    BackboneOpening,
    StreamOpener,
    nothing_to_learn,
)
from services.orchestrator.session.route_stream import (
    RouteStream,
    StreamTerms,
    decode_only,
    waits_for_key_frame,
)
from services.orchestrator.session.under_way import UnderWay

# A stream that was opened for frames to come waits for them at least so long.
_UNUSED_SECONDS = 2.0


def _nothing_to_count(route: Route, lack: Lack) -> None:
    """Nobody counts what is only decoded."""


def _any_bundle(route: Route) -> Optional[str]:
    """The stages choose."""
    return None


def _nothing_extra(lack: Lack) -> float:
    """No frame may take longer than another."""
    return 0.0


class RouteStreams:
    """A stream for each route that the session's frames take.

    Usually one; two while the frames in flight on a left route come home, or while the next route
    is being prepared; and two on one route while its frames change from one codec or bundle to
    another, or while frames of video are sent again.

    Attributes:
        under_way: counts the frames on them.
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
        bundle_for: Callable[[Route], Optional[str]] = _any_bundle,
        on_opened: Callable[[Route, Optional[Codec], StageStream], None] = nothing_to_learn,
        on_decode_only: Callable[[Route, Lack], None] = _nothing_to_count,
        frames_from: str = ORCHESTRATOR,
        encoding: Optional[FrameEncoding] = None,
        metadata: Metadata = (),
        message_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """Open nothing yet.

        Args:
            session_id: for the stages' logs.
            options: those of the client's stream.
            channels: to each backbone.
            in_flight: counts the frames of all sessions, by the stage that they are bound for.
            extra_seconds: adds up what large frames of all sessions may take, by backbone.
            codec_for: by which codec the next frame on a route travels; None: that of the options.
            bundle_for: digest of the bundle that the next frame on a route is served with; None:
                the stages' own choice.
            on_opened: called with each stream that was opened, its route, and the codec that was
                asked for; what it learns may change what `codec_for` says.
            on_decode_only: called with the frames that are sent along a route to be decoded only.
            frames_from: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
            encoding: of pictures that cross a link; None: they are sent as they came.
            metadata: of the calls to the backbones.
            message_bytes: tells the size of the session's largest frame so far.
        """
        self.under_way = UnderWay(in_flight, extra_seconds)
        self._codec_for = codec_for or (lambda route: options.codec)
        self._bundle_for = bundle_for
        self._opener = StreamOpener(
            BackboneOpening(session_id, options, frames_from, encoding),
            channels,
            self._terms_for,
            on_opened,
            metadata=metadata,
            message_bytes=message_bytes,
        )
        self._on_decode_only = on_decode_only
        self._streams: Dict[Route, List[RouteStream]] = {}
        # Of each route, the stream that its latest frame took.
        self._latest: Dict[Route, RouteStream] = {}

    def is_open(self, route: Route) -> bool:
        """Whether frames can be sent along a route at once."""
        return any(stream.open for stream in self._streams.get(route, ()))

    def lack(self, route: Route, place: Place) -> Optional[Lack]:
        """What a frame of video would be sent behind along a route; None if it comes too late."""
        streams = [stream for stream in self._streams.get(route, ()) if not stream.ended]
        lacks = [lack for lack in (stream.lacks(place) for stream in streams) if lack is not None]
        if streams:
            return min(lacks, key=_frames_of, default=None)
        return place.group.part(0, place.offset)

    def for_picture(self, route: Route) -> Optional[RouteStream]:
        """The stream that nearly every picture takes; None if another may have to be opened."""
        only = self._only_stream(route, self._terms_for(route), None)
        return only if only is not None and only.sends_at_once else None

    async def ask(
        self,
        route: Route,
        frame: detector_pb2.Frame,
        place: Optional[Place] = None,
        *,
        extra_seconds: Callable[[Lack], float] = _nothing_extra,
        on_sent: Callable[[], None] = lambda: None,
    ) -> stage_pb2.FrameResult:
        """Send a frame along a route and wait for its result.

        Args:
            route: which one; opened first if it is not.
            frame: to be served.
            place: of the frame in the session's video; None if it is a picture.
            extra_seconds: that it may take since it is larger than those before, or since others
                have to be sent before it.
            on_sent: called when the route is open and the frame about to be sent.

        Raises:
            TandemError: the route could not be opened, or failed while the frame was under way.
        """
        used = self._stream_to_use(route, place)
        lack = self._take_over(used, route, place)
        with self.under_way.counted(used, route, extra_seconds(lack)) as mark:
            try:
                # No wait up to here: turns are in the order of what was found to be lacking.
                result = await (
                    _sent(used, frame, lack, on_sent)
                    if used.encoder is None
                    else used.encoder.ask(used.turns, frame, on_sent)
                )
            except TandemError as error:
                raise used.given_up or error from error
            except asyncio.CancelledError:
                # Giving a route up cancels its opening, or its call with the write that it is in.
                if used.given_up is not None:
                    raise used.given_up from None
                raise
            if mark is used.frames[0]:
                used.progress = time.monotonic()
            self._note_video(used, place, result, lack)
            return result

    def _note_video(
        self,
        used: RouteStream,
        place: Optional[Place],
        result: stage_pb2.FrameResult,
        lack: Lack,
    ) -> None:
        """Take note of what an answer says of the decoder, and of what crossed the link with it."""
        if place is None:
            return
        is_error = result.WhichOneof("result") == "error"
        if is_error and isinstance(error_from_wire(result.error), UnavailableError):
            used.decoder.lost()
        if lack.data_bytes and result.timing.HasField("backbone"):
            # The frame took the time of all that was sent with it.
            result.timing.backbone.request_bytes += lack.data_bytes

    def feed(self, route: Route, place: Place) -> None:
        """Have a frame of video decoded that is not to be served, if nothing else waits to be sent.

        What is not sent now is sent before the next frame that is served.
        """
        used = self._latest.get(route)
        lack = used.lacks(place) if used is not None and used.takes_at_once else None
        if used is None or lack is None:
            return
        lack = Lack((*lack.frames, place.frame), lack.data_bytes + place.data_bytes)
        used.decoder.sent(place)
        self._on_decode_only(route, lack)
        used.feed(lack.frames)

    def _take_over(self, used: RouteStream, route: Route, place: Optional[Place]) -> Lack:
        """What has to be sent on a stream before a frame that is to be sent there now."""
        lack = used.lacks(place)
        if place is None or lack is None:
            return NOTHING
        used.decoder.sent(place)
        if lack.frames:
            self._on_decode_only(route, lack)
        return lack

    def _stream_to_use(self, route: Route, place: Optional[Place]) -> RouteStream:
        """The stream for a frame on the route; a new one is opened if there is none that goes on.

        Of several streams it is the one that lacks least of what has to come before the frame.
        """
        terms = self._terms_for(route)
        only = self._only_stream(route, terms, place)
        if only is not None:
            # Nearly every frame: there is nothing to choose from.
            return only
        latest = self._latest.get(route)
        streams = self._streams[route] = [
            stream for stream in self._streams.get(route, ()) if not stream.ended or stream.frames
        ]
        lacks = {stream: stream.lacks(place) for stream in streams if not stream.ended}
        # The best last; of those that are alike it is the one that was opened last.
        going_on = sorted(
            (stream for stream, lack in lacks.items() if lack is not None),
            key=lambda stream: -_frames_of(lacks[stream]),
        )
        wanted = next((stream for stream in reversed(going_on) if stream.suits(terms)), None)
        ready = [stream for stream in going_on if stream.open]
        is_refused = self._opener.is_refused(route, terms)
        if waits_for_key_frame(wanted, terms, ready, place):
            wanted = ready[-1]
        elif wanted is None and not (ready and is_refused):
            wanted = self._opener.begin(route, terms)
            streams.append(wanted)
        if wanted is None or (ready and not wanted.open):
            # Frames take the one before, until that one is open.
            wanted = latest if latest in ready else ready[-1]
        self._latest[route] = wanted
        return wanted

    def _only_stream(
        self, route: Route, terms: StreamTerms, place: Optional[Place]
    ) -> Optional[RouteStream]:
        """The only stream along a route, if a frame can go on there; None if it cannot."""
        latest = self._latest.get(route)
        if latest is None or self._streams.get(route) != [latest]:
            return None
        return latest if latest.goes_on(terms, place) else None

    def _terms_for(self, route: Route) -> StreamTerms:
        return StreamTerms(self._codec_for(route), self._bundle_for(route))

    def extra_seconds(self, route: Route) -> float:
        """What a route's frames may have to wait since some are large; 0 if none of them is.

        Large frames wait for those of all other sessions at their backbone.
        """
        own = sum(stream.extra_seconds for stream in self._streams.get(route, ()))
        # Not exactly 0 when all are gone, since these are sums of floats.
        return 0.0 if own < 1e-3 else self.under_way.extra_seconds(route.backbone)

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

        On the `kept` routes the stream stays that their latest frames took, unless the next one
        would have to take another: what serves it would be kept in memory for nothing.
        """
        staying = [
            latest
            for latest, route in ((self._latest.get(route), route) for route in kept)
            if latest is not None and latest.suits_bundle(self._bundle_for(route))
        ]
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

    def server_removed(self, server: StageAddress) -> None:
        """A server is gone; what is open there still is closed once it has idled for a while."""
        self._opener.server_removed(server)

    async def close(self) -> None:
        """Close every route."""
        streams = [stream for each in self._streams.values() for stream in each]
        self._streams.clear()
        self._latest.clear()
        await _close_all(streams)


async def _sent(
    used: RouteStream, frame: detector_pb2.Frame, lack: Lack, on_sent: Callable[[], None]
) -> stage_pb2.FrameResult:
    """The result of a frame that is sent as it came, behind what its decoder lacks."""
    async with used.turns.take():
        # Shielded: that one frame is given up must not end the opening for the others.
        stream = await asyncio.shield(used.opening)
    on_sent()
    request = stage_pb2.BackboneRequest(frame=frame)
    return await stream.ask(request, frame.frame_id, decode_only(lack.frames))


def _frames_of(lack: Optional[Lack]) -> int:
    return 0 if lack is None else len(lack.frames)


async def _close_all(entries: Sequence[RouteStream]) -> None:
    for entry in entries:
        entry.opening.cancel()
    for stream in await asyncio.gather(*(each.opening for each in entries), return_exceptions=True):
        if isinstance(stream, StageStream):
            await stream.close()
    await asyncio.gather(*(each.encoder.ended for each in entries if each.encoder is not None))
