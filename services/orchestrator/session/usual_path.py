"""The way of nearly every frame: to the backbone and back without a task of its own.

A usual frame is a picture that can be sent at once, as it came, on a stream that is open. `send`
sends it; the stream's reader brings its result, and `accept` takes that. Whatever else may happen
to a frame is left to the `Dispatcher`, which can wait, open streams, and try again.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Optional, Union

from common.domain.errors import TandemError
from common.domain.placement import Stage
from common.server.account import StreamBytes
from common.wire.detections import checked_result
from common.wire.stage_client import Asker
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.routing.router import Router
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.deadlines import FrameWeight, Pace
from services.orchestrator.session.mirrored_requests import MirroredRequests
from services.orchestrator.session.route_choice import RouteChoice
from services.orchestrator.session.route_stream import RouteStream
from services.orchestrator.session.route_streams import RouteStreams

_STAGES = tuple(Stage)


class Way(NamedTuple):
    """What the next usual frame can take at once.

    Attributes:
        route: along which it goes.
        used: the stream along it.
    """

    route: Route
    used: RouteStream


class Trip:
    """A usual frame on its way.

    Attributes:
        route: that it takes.
        used: the stream along it.
        weight: of the frame.
        cost_seconds: the most that it may take for its size.
        extra_seconds: that it may take beyond those before, since it is larger.
        sent_at: when it was sent, by `time.monotonic`.
        latency_seconds: from then to its result.
        question: names it to the stream.
    """

    __slots__ = (
        *("cost_seconds", "extra_seconds", "latency_seconds", "question", "route", "sent_at"),
        *("used", "weight"),
    )

    def __init__(
        self, route: Route, used: RouteStream, weight: FrameWeight, cost_seconds: float
    ) -> None:
        """Begin now."""
        self.route = route
        self.used = used
        self.weight = weight
        self.cost_seconds = cost_seconds
        self.extra_seconds = 0.0
        self.sent_at = time.monotonic()
        self.latency_seconds = 0.0
        self.question = 0


class CameBack(NamedTuple):
    """How a trip ended that has not brought the frame's answer.

    Attributes:
        trip: that has ended.
        outcome: the stage's result; or why there is none that could be used.
    """

    trip: Trip
    outcome: Union[stage_pb2.FrameResult, Exception]


class UsualPath:
    """Sends the usual frames of one session; everything here is done without waiting."""

    def __init__(
        self,
        router: Router,
        choice: RouteChoice,
        streams: RouteStreams,
        *,
        pace: Pace,
        mirrored: MirroredRequests,
        account: StreamBytes,
    ) -> None:
        """Share what a dispatcher sends the session's other frames by."""
        self._router = router
        self._choice = choice
        self._streams = streams
        self._pace = pace
        self._mirrored = mirrored
        self._account = account

    def open_way(self) -> Optional[Way]:
        """What a usual frame can take now; None if there is nothing."""
        if self._account.sends_large:
            # The streams of such sessions are closed after each frame.
            return None
        route = self._choice.route_at_once()
        used = None if route is None else self._streams.for_picture(route)
        return None if route is None or used is None else Way(route, used)

    def send(self, way: Way, frame: detector_pb2.Frame, asker: Asker) -> Optional[Trip]:
        """Send a frame, whose `asker` learns its result.

        Args:
            way: what `open_way` has just told.
            frame: the picture; it is part of no trace.
            asker: told once, unless the trip is given up.

        Returns:
            The trip, to be ended once; None if the stream was lost.
        """
        route, used = way
        weight = FrameWeight.of(frame)
        rate = self._router.measurements.link_bytes_per_second(route)
        trip = Trip(route, used, weight, weight.cost_seconds(rate))
        trip.extra_seconds = self._pace.extra_seconds(trip.cost_seconds)
        request = stage_pb2.BackboneRequest(frame=frame)
        try:
            trip.question = used.opening.result().send(request, frame.frame_id, asker)
        except TandemError:
            return None
        self._streams.under_way.begin(trip, used, route, trip.extra_seconds)
        return trip

    def end(self, trip: Trip) -> None:
        """A frame's trip is over, in whatever way."""
        self._streams.under_way.end(trip, trip.used, trip.route, trip.extra_seconds)

    def give_up(self, trip: Trip) -> None:
        """Nobody waits for a frame any more: its asker is not told."""
        trip.used.opening.result().forget(trip.question)
        self.end(trip)

    def accept(self, trip: Trip, result: stage_pb2.FrameResult) -> bool:
        """Take a frame's result, and end its trip; returns whether it has detections.

        Raises:
            InternalError: the result is none that a stage would give; the trip has ended.
        """
        used, route = trip.used, trip.route
        if used.frames[0] is trip:
            used.progress = time.monotonic()
        self.end(trip)
        self._router.table.note_result(route, result)
        checked_result(result, route.backbone.name, _STAGES)
        trip.latency_seconds = time.monotonic() - trip.sent_at
        return result.HasField("detections")

    def learn(self, trip: Trip, frame: detector_pb2.Frame) -> None:
        """Learn from a frame that has its detections how its route does."""
        self._choice.served(trip.route)
        self._pace.served(trip.latency_seconds, trip.cost_seconds)
        self._mirrored.mirror(frame, trip.weight)
