"""One session's streams to backbones: opened when needed, given up when they make no progress."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from common.domain.detections import DEFAULT_SCORE_THRESHOLD, StreamOptions
from common.domain.errors import TandemError, UnavailableError
from common.domain.placement import ORCHESTRATOR, Stage, StageAddress
from common.wire.channels import ServerChannel
from common.wire.frames import codec_to_wire
from common.wire.placements import placement_to_wire
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.routing.routes import Route


@dataclass
class _Entry:
    """A route's stream, or its opening, and the frames under way on it.

    Attributes:
        frames: of each a mark, in the order asked.
        extra_seconds: that they may take, all together, since they are large.
        progress: when the oldest of them was answered last, or one came to an idle route, by
            `time.monotonic`. Not one of the others: a stage that passes over a frame would seem to
            make progress while its client waits for just that frame.
        given_up: why the route was given up; None while it is not.
    """

    opening: asyncio.Task[StageStream]
    frames: List[object] = field(default_factory=list)
    extra_seconds: float = 0.0
    progress: float = 0.0
    given_up: Optional[UnavailableError] = None

    @property
    def ended(self) -> bool:
        """Whether the route has to be opened anew: it could not be, or its stream ended since."""
        if self.given_up is not None:
            return True
        if not self.opening.done():
            return False
        failed = self.opening.cancelled() or self.opening.exception() is not None
        return failed or self.opening.result().lost

    @property
    def open(self) -> bool:
        """Whether a frame can be sent without waiting for the opening."""
        return self.opening.done() and not self.ended


class RouteStreams:
    """A stream for each route that the session's frames take.

    Usually one; two while the frames in flight on a left route come home, or while the next route
    is being prepared.
    """

    def __init__(
        self,
        session_id: str,
        options: StreamOptions,
        channels: Mapping[StageAddress, ServerChannel],
        in_flight: Counter[StageAddress],
        extra_seconds: Optional[Dict[StageAddress, float]] = None,
    ) -> None:
        """Open nothing yet.

        Args:
            session_id: for the stages' logs.
            options: those of the client's stream.
            channels: to each backbone.
            in_flight: counts the frames of all sessions, by the stage that they are bound for.
            extra_seconds: adds up what large frames of all sessions may take, by backbone.
        """
        self._session_id = session_id
        self._options = options
        self._channels = channels
        self._in_flight = in_flight
        self._extra_seconds = {} if extra_seconds is None else extra_seconds
        self._entries: Dict[Route, _Entry] = {}

    def is_open(self, route: Route) -> bool:
        """Whether frames can be sent along a route at once."""
        entry = self._entries.get(route)
        return entry is not None and entry.open

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
        entry = self._entry_to_use(route)
        with self._under_way(entry, route, extra_seconds) as mark:
            try:
                # Shielded: that one frame is given up must not end the opening for the others.
                stream = await asyncio.shield(entry.opening)
                on_sent()
                result = await stream.ask(stage_pb2.BackboneRequest(frame=frame), frame.frame_id)
            except TandemError as error:
                raise entry.given_up or error from error
            except asyncio.CancelledError:
                # Giving a route up cancels its opening, or its call with the write that it is in.
                if entry.given_up is not None:
                    raise entry.given_up from None
                raise
            if mark is entry.frames[0]:
                entry.progress = time.monotonic()
            return result

    def _entry_to_use(self, route: Route) -> _Entry:
        """The route's stream; a new one is opened if there is none, or none that goes on."""
        entry = self._entries.get(route)
        if entry is None or entry.ended:
            entry = self._entries[route] = _Entry(asyncio.ensure_future(self._open(route)))
        return entry

    @contextmanager
    def _under_way(self, entry: _Entry, route: Route, extra_seconds: float) -> Iterator[object]:
        """Count a frame while it is under way; gives its mark."""
        if not entry.frames:
            entry.progress = time.monotonic()
        mark = object()
        entry.frames.append(mark)
        self._in_flight.update(route.servers)
        self._add_extra(entry, route, extra_seconds)
        try:
            yield mark
        finally:
            entry.frames.remove(mark)
            self._in_flight.subtract(route.servers)
            self._add_extra(entry, route, -extra_seconds)

    def _add_extra(self, entry: _Entry, route: Route, seconds: float) -> None:
        if seconds:
            entry.extra_seconds += seconds
            total = self._extra_seconds.get(route.backbone, 0.0) + seconds
            self._extra_seconds[route.backbone] = total

    def extra_seconds(self, route: Route) -> float:
        """What a route's frames may have to wait since some are large; 0 if none of them is.

        Large frames wait for those of all other sessions at their backbone.
        """
        entry = self._entries.get(route)
        # Not exactly 0 when all are gone, since these are sums of floats.
        if entry is None or entry.extra_seconds < 1e-3:
            return 0.0
        return self._extra_seconds.get(route.backbone, 0.0)

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
            for route, entry in self._entries.items()
            if entry.frames
            and entry.given_up is None
            and now - entry.progress > deadline_seconds[route]
        ]

    def give_up(self, route: Route, reason: str) -> None:
        """Fail the frames under way on a route, so that they can be sent elsewhere."""
        entry = self._entries.get(route)
        if entry is None or entry.ended:
            return
        entry.given_up = UnavailableError(reason)
        if entry.opening.done():
            entry.opening.result().abandon()
        else:
            entry.opening.cancel()

    @property
    def routes(self) -> Sequence[Route]:
        """The routes that streams are open on, or being opened."""
        return tuple(self._entries)

    async def leave_idle(self, since: float, *kept: Route) -> None:
        """Close the routes, other than these, that no frame has been on since then."""
        left = [
            route
            for route, entry in self._entries.items()
            if route not in kept and not entry.frames and entry.progress <= since
        ]
        if left:
            await _close_all([self._entries.pop(route) for route in left])

    async def close(self) -> None:
        """Close every route."""
        entries = list(self._entries.values())
        self._entries.clear()
        await _close_all(entries)

    async def _open(self, route: Route) -> StageStream:
        context = stage_pb2.StreamContext(
            session_id=self._session_id,
            placement=placement_to_wire(route.node_pair.placement),
            max_detections=self._options.max_detections,
            sender=ORCHESTRATOR,
        )
        if self._options.score_threshold != DEFAULT_SCORE_THRESHOLD:
            context.score_threshold = self._options.score_threshold
        opening = stage_pb2.BackboneOpen(
            context=context,
            downstream_node=route.transformer.node,
            downstream_replica=route.transformer.replica,
            codec=codec_to_wire(self._options.codec),
        )
        return await StageStream.open(
            self._channels[route.backbone].current,
            Stage.BACKBONE,
            stage_pb2.BackboneRequest(open=opening),
            route.backbone.name,
        )


async def _close_all(entries: Sequence[_Entry]) -> None:
    for entry in entries:
        entry.opening.cancel()
    for stream in await asyncio.gather(*(each.opening for each in entries), return_exceptions=True):
        if isinstance(stream, StageStream):
            await stream.close()
