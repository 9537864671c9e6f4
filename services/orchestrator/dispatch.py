"""Takes one session's frames to their answers, over whatever routes that needs."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import AsyncIterator, Callable, Dict, Mapping, Optional, Set, Tuple

import grpc
import structlog

from common.domain.errors import (
    CallerError,
    PreconditionError,
    ResourceExhaustedError,
    TandemError,
    UnavailableError,
)
from common.domain.placement import NodePair, Stage, StageAddress
from common.server.account import StreamBytes
from common.wire.detections import checked_result
from common.wire.errors import error_from_wire, error_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.attempts import MOST_REJECTIONS, FrameAttempts
from services.orchestrator.closed_routes import Cause, ClosedRoutes
from services.orchestrator.deadlines import (
    FrameWeight,
    frame_cost_seconds,
    progress_deadline_seconds,
)
from services.orchestrator.placement import NOT_SERVING, Route
from services.orchestrator.routes import RouteStreams
from services.orchestrator.routing import Router

log = structlog.get_logger()

# Clients' frame ids count up from anywhere, so that copies of frames get ids from the far end.
_COPY_IDS_FROM = (1 << 64) - 1
_RECENT = 0.1
_IDLE_SECONDS = 2.0
# Whatever else was lost at the same moment is known by then: a frame must not be taken for the one
# that brings stages down since two of them died at once.
_SETTLING_SECONDS = 0.2
_STAGES = tuple(Stage)


def _note_nothing() -> None:
    """What is sent is no probe."""


class Dispatcher:
    """Sends frames along the best route, and again along another when a route fails them.

    A route is changed while frames flow: the new one is opened, and has served the copy of a
    frame, before the first frame goes there; until then they take the old one. Only frames that
    have been served are copied, so that a frame which brings stages down goes nowhere unseen.
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
        table = router.table
        self._streams = RouteStreams(
            session_id, options, channels, table.in_flight, table.extra_seconds
        )
        self._current: Optional[Route] = None
        self._to_warm: Optional[Route] = None
        self._warm: Set[Route] = set()
        self._copies: Dict[Route, asyncio.Task[None]] = {}
        self._next_copy_id = _COPY_IDS_FROM
        self._closed = ClosedRoutes()
        self._outage_since: Optional[float] = None
        self._recent_seconds = 0.0
        self._recent_cost_seconds = 0.0

    async def detect(
        self, frame: detector_pb2.Frame, weight: FrameWeight
    ) -> Tuple[Route, stage_pb2.FrameResult]:
        """Have a frame of this weight served; its result may be an error of the frame's own.

        Raises:
            UnavailableError: no route could serve it for as long as the server waits.
            ResourceExhaustedError: none had room for it for as long.
            PreconditionError: the nodes wanted are not configured, or do not fit together.
            InternalError: it was under way at the loss of two routes, or two servers failed on it.
        """
        attempts = FrameAttempts()
        while True:
            if attempts.is_suspect:
                await asyncio.sleep(_SETTLING_SECONDS)
            route = await self._next_route(attempts)
            async with self._turn(attempts):
                if not self._is_usable(route):
                    # While it waited for its turn.
                    continue
                began = time.monotonic()
                result = await self._try(route, frame, weight, attempts)
            if result is not None:
                self._served(route, weight, time.monotonic() - began)
                # One that was refused is at fault itself, and would be refused elsewhere as well.
                if result.WhichOneof("result") == "detections":
                    for server in attempts.failed_on:
                        self._router.failed(server)
                    self._send_copy(frame, weight)
                if self._account.sends_large:
                    # While it idled, a stage would keep room for another such frame.
                    await self._streams.leave_idle(time.monotonic())
                return route, result
            error = attempts.verdict()
            if error is not None:
                # What it did to them says nothing about the routes.
                self._closed.reopen(attempts.lost_with)
                self._outage_since = None
                raise error
            self._router.events.replayed()

    @asynccontextmanager
    async def _turn(self, attempts: FrameAttempts) -> AsyncIterator[None]:
        """Frames that a route was lost with are sent again one at a time, of all sessions.

        If one of them is what brings stages down, the others are not lost for its sake again.
        """
        if not attempts.is_suspect:
            yield
            return
        async with self._router.suspects:
            yield

    async def _try(
        self,
        route: Route,
        frame: detector_pb2.Frame,
        weight: FrameWeight,
        attempts: FrameAttempts,
        *,
        note_sent: Callable[[], None] = _note_nothing,
    ) -> Optional[stage_pb2.FrameResult]:
        """Send a frame along a route; None if that came to nothing that is the frame's own.

        Raises:
            ResourceExhaustedError: there is room for other frames, but not for this one.
        """
        under_way = False

        def on_sent() -> None:
            nonlocal under_way
            under_way = True
            note_sent()

        cost_seconds = frame_cost_seconds(weight, self._router.link_bytes_per_second(route))
        extra_seconds = max(0.0, cost_seconds - self._recent_cost_seconds)
        try:
            result = await self._streams.ask(
                route, frame, extra_seconds=extra_seconds, on_sent=on_sent
            )
            checked_result(result, route.backbone.name, _STAGES)
        except PreconditionError as error:
            self._close(route, Cause.REFUSED, error, frame)
        except ResourceExhaustedError as error:
            self._close(route, Cause.FULL, error, frame)
            if under_way:
                attempts.rejected(route)
                if attempts.rejections >= MOST_REJECTIONS:
                    raise
        except UnavailableError as error:
            self._lost(route, error, frame, attempts if under_way else None)
        except TandemError as error:
            # Of the stage, which broke the protocol, or says so of us.
            self._close(route, Cause.LOST, error, frame)
            attempts.failed(route, route.backbone, error)
        else:
            return self._own_result(route, result, frame, attempts)
        return None

    def _own_result(
        self,
        route: Route,
        result: stage_pb2.FrameResult,
        frame: detector_pb2.Frame,
        attempts: FrameAttempts,
    ) -> Optional[stage_pb2.FrameResult]:
        """The result, if it is what the frame itself deserves; None if it is to be tried again.

        Raises:
            ResourceExhaustedError: there is room for other frames, but not for this one.
        """
        if result.WhichOneof("result") == "detections":
            return result
        error = error_from_wire(result.error)
        if isinstance(error, UnavailableError):
            self._lost(route, error, frame, attempts)
            return None
        if isinstance(error, ResourceExhaustedError):
            self._close(route, Cause.FULL, error, frame)
            attempts.rejected(route)
            if attempts.rejections >= MOST_REJECTIONS:
                raise error
            return None
        if isinstance(error, CallerError):
            # Not as it came: a stage may say any number of words.
            result.error.CopyFrom(error_to_wire(error))
            return result
        server = route.transformer if result.timing.HasField("transformer") else route.backbone
        attempts.failed(route, server, error)
        self._log_retry(route, error, frame)
        return None

    def _lost(
        self,
        route: Route,
        error: TandemError,
        frame: detector_pb2.Frame,
        attempts: Optional[FrameAttempts],
    ) -> None:
        """A frame did not come back, or could not be sent (then there are no attempts to note)."""
        self._close(route, Cause.LOST, error, frame)
        states = (self._router.table.states[server] for server in route.servers)
        # One that says that it serves no more has brought itself down in good order.
        if attempts is not None and not any(state.fault == NOT_SERVING for state in states):
            attempts.lost(route)

    def _close(
        self, route: Route, cause: Cause, error: TandemError, frame: detector_pb2.Frame
    ) -> None:
        # One that was given up for stalling stays closed for longer than one that was lost.
        if route not in self._closed.errors(time.monotonic()):
            self._closed.close(route, cause, error, time.monotonic())
        self._warm.discard(route)
        self._begin_outage()
        self._log_retry(route, error, frame)

    def _log_retry(self, route: Route, error: TandemError, frame: detector_pb2.Frame) -> None:
        log.info(
            "frame to be sent again",
            session=self._session_id,
            frame=frame.frame_id,
            left=route.pair.name,
            reason=str(error),
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
            route: progress_deadline_seconds(
                max(self._recent_seconds, self._router.latency_seconds(route)),
                self._streams.extra_seconds(route),
            )
            for route in self._streams.routes
        }
        for route in self._streams.stalled(now, deadlines):
            self._router.stalled(route, self._session_id, deadlines[route])
            reason = f"{route.pair.name} made no progress for {deadlines[route]:.1f} s"
            self._closed.close(route, Cause.STALLED, UnavailableError(reason), now)
            self.give_up(route, reason)

    def stage_lost(self, address: StageAddress, reason: str) -> None:
        """Give up the routes through a server that does not answer any more."""
        for route in self._streams.routes:
            if route.uses(address):
                self.give_up(route, f"{address.name} {reason}")

    def stage_changed(self, address: StageAddress) -> None:
        """A server has changed: it may serve what it did not before."""
        self._closed.changed(address)

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

    async def _next_route(self, attempts: FrameAttempts) -> Route:
        while True:
            change = self._router.next_change()
            now = time.monotonic()
            try:
                best = self._router.route(self._wanted, self._closed.errors(now), attempts.penalty)
            except (UnavailableError, ResourceExhaustedError):
                left_seconds = self._begin_outage() + self._router.options.patience_seconds - now
                if left_seconds <= 0 or self._router.draining:
                    raise
                opening = self._closed.next_opening()
                if opening is not None:
                    left_seconds = min(left_seconds, opening - now)
                await asyncio.wait([change], timeout=left_seconds)
                continue
            error = attempts.verdict(best)
            if error is not None:
                raise error
            return best if attempts.is_retry else self._switch_or_stay(best)

    def _is_usable(self, route: Route) -> bool:
        passable = self._router.table.passable(route)
        return passable and route not in self._closed.errors(time.monotonic())

    def _switch_or_stay(self, best: Route) -> Route:
        current = self._current
        stays = current is not None and self._is_usable(current) and self._streams.is_open(current)
        ready = best in self._warm and self._streams.is_open(best)
        if current is None or not stays or ready:
            self._current = best
        elif current != best:
            self._to_warm = best
        return self._current or best

    def _send_copy(self, frame: detector_pb2.Frame, weight: FrameWeight) -> None:
        """Have a copy of a frame served where a route is to be opened, warmed up or measured."""
        next_route, self._to_warm = self._to_warm, None
        unusable = {*self._copies, *self._closed.errors(time.monotonic())}
        route = next_route
        if route is None and self._wanted is None:
            route = self._router.take_probe(unusable)
        if route is None or route in unusable:
            return
        charge = self._account.try_copy(weight.data_bytes)
        if charge is None:
            # There is no room for one: the switch goes without.
            self._current = next_route or self._current
            return
        copy = detector_pb2.Frame()
        copy.CopyFrom(frame)
        copy.frame_id = self._next_copy_id
        self._next_copy_id -= 1
        note_sent = _note_nothing if route is next_route else self._router.events.probed
        task = asyncio.ensure_future(self._serve_copy(route, copy, weight, note_sent))
        self._copies[route] = task
        task.add_done_callback(lambda _: self._copies.pop(route, None))
        task.add_done_callback(lambda _: charge.release())

    async def _serve_copy(
        self,
        route: Route,
        copy: detector_pb2.Frame,
        weight: FrameWeight,
        note_sent: Callable[[], None],
    ) -> None:
        attempts = FrameAttempts()
        result = await self._try(route, copy, weight, attempts, note_sent=note_sent)
        if result is not None and result.WhichOneof("result") == "detections":
            self._router.observe(route, result.timing, backlogged=False)
            self._closed.served(route)
            self._warm.add(route)
            return
        for server in attempts.failed_on:
            self._router.failed(server)
        if result is not None or attempts.failed_on:
            # It failed on what another route has served.
            error = UnavailableError(f"{route.pair.name} failed on a frame that was served before")
            self._closed.close(route, Cause.LOST, error, time.monotonic())

    def _served(self, route: Route, weight: FrameWeight, seconds: float) -> None:
        """A frame has come back along a route, with detections or an error of its own."""
        self._outage_since = None
        self._closed.served(route)
        self._warm.add(route)
        share = _RECENT if self._recent_seconds else 1.0
        self._recent_seconds += share * (seconds - self._recent_seconds)
        cost_seconds = frame_cost_seconds(weight, self._router.link_bytes_per_second(route))
        self._recent_cost_seconds += share * (cost_seconds - self._recent_cost_seconds)

    def _begin_outage(self) -> float:
        """When frames stopped being served; now, if they were until now."""
        if self._outage_since is None:
            self._outage_since = time.monotonic()
        return self._outage_since
