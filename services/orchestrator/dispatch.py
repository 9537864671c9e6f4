"""Takes one session's frames to their answers, over whatever routes that needs."""

from __future__ import annotations

import asyncio
import time
from typing import Dict, Mapping, Optional, Set, Tuple

import grpc
import structlog

from common.domain.errors import PreconditionError, TandemError, UnavailableError
from common.domain.placement import NodePair, StageAddress
from common.stage.budget import StreamBytes
from common.wire.frames import image_bytes
from common.wire.status import status_from_wire
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.placement import Route
from services.orchestrator.routes import RouteStreams
from services.orchestrator.routing import Router

log = structlog.get_logger()

# Clients' frame ids count up from anywhere, so that copies of frames get ids from the far end.
_COPY_IDS_FROM = (1 << 64) - 1
# A frame that brings down every stage it comes to must not go round for ever.
_MOST_REPLAYS = 10
_RECENT = 0.1
_IDLE_SECONDS = 2.0


class Dispatcher:
    """Sends frames along the best route, and again along the next when a route is lost.

    A route is changed while frames flow: the new one is opened, and has served the copy of a
    frame, before the first frame goes there; until then they take the old one.
    """

    def __init__(
        self,
        session_id: str,
        wanted: Optional[NodePair],
        options: detector_pb2.StreamOptions,
        router: Router,
        channels: Mapping[StageAddress, grpc.aio.Channel],
        *,
        account: StreamBytes,
    ) -> None:
        """Open nothing yet.

        Args:
            session_id: for logs.
            wanted: nodes that the client asked for; None leaves it to the server.
            options: of the client's stream.
            router: knows the routes.
            channels: to each backbone.
            account: of the bytes that the session holds.
        """
        self._account = account
        self._session_id = session_id
        self._wanted = wanted
        self._router = router
        self._streams = RouteStreams(session_id, options, channels, router.table.in_flight)
        self._current: Optional[Route] = None
        self._warm: Set[Route] = set()
        self._copies: Dict[Route, asyncio.Task[None]] = {}
        self._next_copy_id = _COPY_IDS_FROM
        self._refused: Dict[Route, PreconditionError] = {}
        self._outage_since: Optional[float] = None
        self._recent_seconds = 0.0

    async def detect(self, frame: detector_pb2.Frame) -> Tuple[Route, stage_pb2.FrameResult]:
        """Have a frame served; its result may be an error of the frame's own.

        Raises:
            UnavailableError: no route could serve it for as long as the server waits.
            PreconditionError: the nodes wanted are not configured, or do not fit together.
        """
        replays = 0
        while True:
            route = await self._next_route(frame)
            began = time.monotonic()
            try:
                result = await self._streams.ask(route, frame)
            except PreconditionError as error:
                self._refused[route] = error
                continue
            except UnavailableError as error:
                loss: TandemError = error
            else:
                if not _is_lost(result):
                    self._served(route, time.monotonic() - began)
                    if self._account.sends_large:
                        # While it idled, a stage would keep room for another such frame.
                        await self._streams.leave_idle(time.monotonic())
                    return route, result
                loss = status_from_wire(result.error)
            replays += 1
            self._router.lost(route, str(loss))
            self._begin_outage()
            if replays > _MOST_REPLAYS:
                raise loss
            self._router.events.replayed()
            log.info(
                "frame replayed",
                session=self._session_id,
                frame=frame.frame_id,
                left=route.pair.name,
                reason=str(loss),
            )

    async def leave_idle_routes(self, now: float) -> None:
        """Close the streams that no frame has taken for a while; `now` by `time.monotonic`.

        Not at once: the next frames are about to take a route that has just been warmed, and
        a replica is without a frame now and then.
        """
        kept = () if self._current is None else (self._current,)
        await self._streams.leave_idle(now - _IDLE_SECONDS, *kept)
        self._warm.intersection_update(self._streams.routes)

    def check(self, now: float) -> None:
        """Give up the routes that make no progress; `now` by `time.monotonic`."""
        deadlines = {
            route: self._router.progress_deadline_seconds(route, self._recent_seconds)
            for route in self._streams.routes
        }
        for route in self._streams.stalled(now, deadlines):
            self._router.stalled(route, deadlines[route])
            self.give_up(route, f"{route.pair.name} made no progress")

    def stage_lost(self, address: StageAddress, reason: str) -> None:
        """Give up the routes through a server that does not answer any more."""
        for route in self._streams.routes:
            if route.uses(address):
                self.give_up(route, f"{address.name} {reason}")

    def forget_refusals(self, address: StageAddress) -> None:
        """A server has changed: it may serve what it refused before."""
        for route in [route for route in self._refused if route.uses(address)]:
            del self._refused[route]

    def give_up(self, route: Route, reason: str) -> None:
        """Fail the frames under way on a route; they are sent again along another."""
        self._warm.discard(route)
        self._streams.give_up(route, reason)

    async def close(self) -> None:
        """Close every route."""
        for copy in self._copies.values():
            copy.cancel()
        await asyncio.gather(*self._copies.values(), return_exceptions=True)
        await self._streams.close()

    async def _next_route(self, frame: detector_pb2.Frame) -> Route:
        while True:
            change = self._router.next_change()
            try:
                best = self._router.route(self._wanted, self._refused)
            except UnavailableError:
                left_seconds = self._begin_outage() + self._router.options.patience_seconds
                left_seconds -= time.monotonic()
                if left_seconds <= 0 or self._router.draining:
                    raise
                await asyncio.wait([change], timeout=left_seconds)
                continue
            route = self._switch_or_stay(best, frame)
            self._current = route
            self._probe(frame)
            return route

    def _switch_or_stay(self, best: Route, frame: detector_pb2.Frame) -> Route:
        current = self._current
        if current is None or current == best:
            return best
        if not self._router.table.passable(current) or not self._streams.is_open(current):
            return best
        if best in self._warm and self._streams.is_open(best):
            return best
        return current if self._send_copy(best, frame) else best

    def _probe(self, frame: detector_pb2.Frame) -> None:
        if self._wanted is not None:
            return
        route = self._router.take_probe(self._refused)
        if route is not None:
            self._send_copy(route, frame)

    def _send_copy(self, route: Route, frame: detector_pb2.Frame) -> bool:
        """Have a copy of a frame served, to open, warm up and measure a route.

        Returns:
            Whether one is under way; there may be no room for it.
        """
        if route in self._copies:
            return True
        charge = self._account.try_copy(image_bytes(frame))
        if charge is None:
            return False
        copy = detector_pb2.Frame()
        copy.CopyFrom(frame)
        copy.frame_id = self._next_copy_id
        self._next_copy_id -= 1
        task = asyncio.ensure_future(self._serve_copy(route, copy))
        self._copies[route] = task
        task.add_done_callback(lambda _: self._copies.pop(route, None))
        task.add_done_callback(lambda _: charge.release())
        return True

    async def _serve_copy(self, route: Route, copy: detector_pb2.Frame) -> None:
        try:
            result = await self._streams.ask(route, copy)
        except PreconditionError as error:
            self._refused[route] = error
        except TandemError as error:
            self._router.lost(route, str(error))
        else:
            if result.WhichOneof("result") == "detections":
                self._router.observe(route, result.timing, backlogged=False)
            self._warm.add(route)

    def _served(self, route: Route, seconds: float) -> None:
        self._outage_since = None
        self._warm.add(route)
        weight = _RECENT if self._recent_seconds else 1.0
        self._recent_seconds += weight * (seconds - self._recent_seconds)

    def _begin_outage(self) -> float:
        """When frames stopped being served; now, if they were until now."""
        if self._outage_since is None:
            self._outage_since = time.monotonic()
        return self._outage_since


def _is_lost(result: stage_pb2.FrameResult) -> bool:
    """Whether a result says that a stage was lost, rather than what is on the frame."""
    return result.WhichOneof("result") == "error" and isinstance(
        status_from_wire(result.error), UnavailableError
    )
