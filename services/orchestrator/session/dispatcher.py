"""Takes one session's frames to their results, over whatever routes that needs."""

from __future__ import annotations

import asyncio
import time
from typing import Optional, Tuple

from common.domain.codec import Codec
from common.domain.detections import OverloadPolicy, StreamOptions
from common.domain.errors import InternalError
from common.domain.placement import StageAddress
from common.server.account import StreamBytes
from common.telemetry.tracing import NOT_TRACED, Span
from common.wire.stage_client import Metadata, StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.attempts import FrameAttempts
from services.orchestrator.session.deadlines import FrameWeight, Pace, progress_deadline_seconds
from services.orchestrator.session.gate import EarliestFirst
from services.orchestrator.session.groups import KeptVideo, Lack, Place, again
from services.orchestrator.session.mirrored_requests import MirroredRequests
from services.orchestrator.session.rate_control import RateControl
from services.orchestrator.session.resources import SessionResources
from services.orchestrator.session.route_choice import RouteChoice
from services.orchestrator.session.route_streams import RouteStreams
from services.orchestrator.session.sender import FrameSender
from services.orchestrator.session.usual_path import CameBack, UsualPath

_IDLE_SECONDS = 2.0
# Whatever else failed at the same moment is known by then: a frame must not be taken for the one
# that brings stages down since two of them died at once.
_SETTLING_SECONDS = 0.2


class Dispatcher:
    """Sends frames along the best route, and again along another when a route fails them.

    A frame passes `serve` from top to bottom: a route is chosen, the frame is sent along it, and
    either has its result or goes round once more.

    Attributes:
        rates: by which codec features travel.
        video: what of the session's video may have to be sent again.
        usual: sends the frames that need nothing of what is done here.
    """

    def __init__(
        self,
        session_id: str,
        options: StreamOptions,
        resources: SessionResources,
        account: StreamBytes,
        metadata: Metadata = (),
    ) -> None:
        """Open no stream yet.

        Args:
            session_id: for logs.
            options: those of the client's stream.
            resources: what all sessions share.
            account: of the bytes that the session holds.
            metadata: of the calls to the backbones.
        """
        self._session_id = session_id
        self._router = router = resources.router.of(options.model)
        self._suspect_turn = resources.suspect_turn
        self._suspects = EarliestFirst()
        self._account = account
        self._metrics = resources.metrics
        self._own_codec = options.codec
        self.video = KeptVideo(resources.max_group_bytes, account)
        self._pace = Pace()
        self.rates = RateControl(
            options,
            router.options.policy,
            is_live=options.overload is OverloadPolicy.DROP_OLDEST,
        )
        self._streams = RouteStreams(
            session_id,
            options,
            resources.channels,
            router.table.in_flight,
            router.table.extra_seconds,
            codec_for=self._codec_for,
            bundle_for=self._bundle_for,
            on_opened=self._learn_codecs,
            on_decode_only=self._count_decode_only,
            frames_from=router.options.policy.located_at,
            encoding=resources.frame_encoding,
            metadata=metadata,
            message_bytes=lambda: account.largest_bytes,
        )
        self._choice = RouteChoice(
            *(router, options.requested_pair, self._streams.is_open, resources.draining),
            is_changing=lambda route: router.table.models.is_changing(route, time.monotonic()),
        )
        self._sender = FrameSender(session_id, router, self._choice, self._streams, self._pace)
        self._mirrored = MirroredRequests(
            *(router, self._choice, self._sender, account, self.video),
            measures=options.requested_pair is None,
        )
        self.usual = UsualPath(
            *(router, self._choice, self._streams),
            pace=self._pace,
            mirrored=self._mirrored,
            account=account,
        )

    async def serve(
        self,
        frame: detector_pb2.Frame,
        weight: FrameWeight,
        place: Optional[Place] = None,
        span: Span = NOT_TRACED,
        *,
        came_back: Optional[CameBack] = None,
    ) -> Tuple[Route, stage_pb2.FrameResult]:
        """Have a frame served; its result may be an error of the frame's own.

        Args:
            frame: to be served.
            weight: of this frame.
            place: of the frame in the session's video; None if it is a picture.
            span: of the frame, if it is traced; each attempt is a span within it.
            came_back: how the frame's first attempt ended, on the usual path; None: it begins here.

        Raises:
            UnavailableError: no route could serve it for as long as the server waits.
            ResourceExhaustedError: none had room for it for as long.
            PreconditionError: the nodes asked for are not configured, or do not fit together.
            InternalError: two routes failed while it was under way, or two servers failed on it;
                or two routes failed with a frame of video that this one cannot be decoded without.
        """
        attempts = FrameAttempts()
        try:
            if came_back is not None:
                trip, outcome = came_back
                result = self._sender.judge(trip.route, frame, attempts, outcome)
                latency_seconds = time.monotonic() - trip.sent_at
                served = self._served(
                    *(trip.route, frame, weight, attempts, result),
                    place=place,
                    latency_seconds=latency_seconds,
                )
                if served is not None:
                    return served
            while True:
                served = await self._attempt(frame, weight, place, attempts, span=span)
                if served is not None:
                    return served
        finally:
            self._suspects.leave(frame.frame_id)

    async def _attempt(
        self,
        frame: detector_pb2.Frame,
        weight: FrameWeight,
        place: Optional[Place],
        attempts: FrameAttempts,
        span: Span,
    ) -> Optional[Tuple[Route, stage_pb2.FrameResult]]:
        """The frame's route and its result; None if it is to be tried again."""
        if attempts.is_suspect:
            self._suspects.expect(frame.frame_id)
            await asyncio.sleep(_SETTLING_SECONDS)
            await self._suspects.wait(frame.frame_id)
        route = await self._choice.next_route(attempts)
        if not attempts.is_suspect:
            return await self._send(route, frame, weight, place, attempts, span=span)
        # Frames that a route failed with are sent again one at a time, of all sessions. If one of
        # them is what brings stages down, the others do not fail for its sake again.
        async with self._suspect_turn:
            if not self._choice.is_usable(route):
                # It became unavailable while the frame waited for its turn.
                return None
            return await self._send(route, frame, weight, place, attempts, span=span)

    async def _send(
        self,
        route: Route,
        frame: detector_pb2.Frame,
        weight: FrameWeight,
        place: Optional[Place],
        attempts: FrameAttempts,
        *,
        span: Span,
    ) -> Optional[Tuple[Route, stage_pb2.FrameResult]]:
        """Send the frame along a route; see `_attempt`."""
        if place is not None and place.group.failed is not None:
            raise again(place.group.failed)
        sent_at = time.monotonic()
        result = await self._sender.send(route, frame, weight, attempts, place, span=span)
        latency_seconds = time.monotonic() - sent_at
        served = self._served(
            *(route, frame, weight, attempts, result), place=place, latency_seconds=latency_seconds
        )
        if served is not None and self._account.sends_large:
            # While it idled, a stage would keep room for another such frame.
            await self._streams.leave_idle(time.monotonic())
        return served

    def _served(
        self,
        route: Route,
        frame: detector_pb2.Frame,
        weight: FrameWeight,
        attempts: FrameAttempts,
        result: Optional[stage_pb2.FrameResult],
        *,
        place: Optional[Place],
        latency_seconds: float,
    ) -> Optional[Tuple[Route, stage_pb2.FrameResult]]:
        """Take note of what an attempt gave; see `_attempt`."""
        if result is None:
            self._retry_or_fail(attempts, place)
            return None
        self._learn(route, weight, latency_seconds)
        if result.WhichOneof("result") == "detections":
            self._use_served(frame, weight, attempts, place)
        return route, result

    def decode_only(self, place: Place) -> None:
        """Have a frame of video decoded that is not to be served, since later ones need it."""
        if self._choice.current is not None and place.group.failed is None:
            self._streams.feed(self._choice.current, place)

    def check_progress(self, now: float) -> None:
        """Give up the routes that make no progress; `now` by `time.monotonic`."""
        deadlines = {route: self._deadline_seconds(route) for route in self._streams.routes}
        for route in self._streams.without_progress(now, deadlines):
            self._router.no_progress(route, self._session_id, deadlines[route])
            reason = f"{route.node_pair.name} made no progress for {deadlines[route]:.1f} s"
            self._choice.no_progress(route, reason, now)
            self._streams.give_up(route, reason)

    async def leave_idle_routes(self, now: float) -> None:
        """Close the streams that no frame has taken for a while; `now` by `time.monotonic`.

        Not at once: the next frames are about to take a route that has just been prepared, and
        a replica is without a frame now and then.
        """
        current = self._choice.current
        kept = () if current is None or not self._router.table.keeps(current) else (current,)
        await self._streams.leave_idle(now - _IDLE_SECONDS, *kept)
        self._choice.keep_open(self._streams.routes)

    def stage_silent(self, server: StageAddress, reason: str) -> None:
        """Give up the routes through a server that does not answer any more."""
        for route in self._streams.routes:
            if route.uses(server):
                self._choice.given_up(route)
                self._streams.give_up(route, f"{server.name} {reason}")

    def stage_changed(self, server: StageAddress) -> None:
        """A server has changed: it may serve what it did not before."""
        self._choice.stage_changed(server)

    def server_removed(self, server: StageAddress) -> None:
        """A server is gone, and with it its routes."""
        self._choice.server_removed(server)
        self._streams.server_removed(server)

    async def close(self) -> None:
        """Close every stream."""
        await self._mirrored.close()
        await self._streams.close()

    def _bundle_for(self, route: Route) -> Optional[str]:
        return self._router.table.models.bundle_for(route, self._router.model)

    def _codec_for(self, route: Route) -> Optional[Codec]:
        if not self.rates.chooses:
            return self._own_codec
        bundle, measurements = self._bundle_for(route), self._router.measurements
        if bundle is not None and not measurements.latent_rates_of(bundle):
            # It has none to choose from, or its first stream is yet to tell.
            return self._own_codec
        estimates = measurements.estimates
        return self.rates.codec_for(route.node_pair, estimates, time.monotonic())

    def _learn_codecs(self, route: Route, codec: Optional[Codec], stream: StageStream) -> None:
        """A backbone has told what its bundle's codecs are."""
        default = stream.codec if codec is None else None
        node = route.backbone.node
        self._router.measurements.observe_codecs(
            node, default, stream.latent_rates, stream.bundle_digest
        )

    def _count_decode_only(self, route: Route, lack: Lack) -> None:
        self._metrics.decode_only_frames.inc(len(lack.frames))
        self._metrics.count_bytes(route.backbone.node, "sent", lack.data_bytes)

    def _learn(self, route: Route, weight: FrameWeight, latency_seconds: float) -> None:
        """A frame has come back along a route, with detections or an error of its own."""
        self._choice.served(route)
        self._pace.served(latency_seconds, self._sender.cost_seconds(route, weight))

    def _use_served(
        self,
        frame: detector_pb2.Frame,
        weight: FrameWeight,
        attempts: FrameAttempts,
        place: Optional[Place],
    ) -> None:
        """A frame has its detections: what failed on it before is at fault, not the frame.

        One that was refused instead is at fault itself, and would be refused elsewhere as well.
        """
        for server in attempts.failed_servers:
            self._router.server_failed(server)
        self._mirrored.mirror(frame, weight, place)

    def _retry_or_fail(self, attempts: FrameAttempts, place: Optional[Place]) -> None:
        error = attempts.verdict()
        if error is None:
            self._router.events.retried()
            return
        self._choice.forgive(attempts.failed_routes)
        if place is not None and attempts.seems_fatal:
            # Every later frame of its group would bring it along, wherever it is sent.
            self.video.fail(place.group, _without(place))
        raise error

    def _deadline_seconds(self, route: Route) -> float:
        predicted_seconds = self._router.decision.predicted_latency_seconds(route.node_pair)
        return progress_deadline_seconds(
            max(self._pace.latency_seconds, predicted_seconds), self._streams.extra_seconds(route)
        )


def _without(place: Place) -> InternalError:
    """The error of the frames that cannot be decoded without this one."""
    return InternalError(
        f"this frame cannot be decoded without frame {place.frame.frame_id}, which was under way "
        "when two routes failed and is not sent again; frames are served again from the next key "
        "frame on"
    )
