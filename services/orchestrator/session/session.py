"""One client's stream, from its first frame to its last answer.

A frame is read and checked (`ClientRequests`) once it has its slot (`WindowSlots`, taken by
`OrderedAnswers`). A usual one is sent at once (`UsualPath`), and finished when its result comes
back (`Session.came_back`). For any other a task waits for what it needs: its place in the gate of a
live stream, a turn, a route, another attempt (`Dispatcher.serve`). Either way it is answered in the
order of the frames.
"""

from __future__ import annotations

import asyncio
import time
from typing import Optional, Tuple, cast

import structlog

from common.domain.detections import OverloadPolicy, StreamOptions
from common.domain.errors import TandemError
from common.domain.status import SessionStatus
from common.security.identity import Identity
from common.server.guard import GuardedStream
from common.server.ordered_stream import OrderedAnswers
from common.server.traced_calls import tell_answer
from common.telemetry.tracing import NOT_TRACED, Span
from common.wire.errors import error_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.routing.router import Router
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.answers import SessionAnswers
from services.orchestrator.session.arrivals import Arrival, Arrivals
from services.orchestrator.session.crowd import SessionTurns, Turn
from services.orchestrator.session.deadlines import FrameWeight
from services.orchestrator.session.dispatcher import Dispatcher
from services.orchestrator.session.frame_in_flight import FrameInFlight
from services.orchestrator.session.learning import SessionLearning
from services.orchestrator.session.quotas import UNLIMITED, Allowance
from services.orchestrator.session.requests import ClientRequests
from services.orchestrator.session.resources import SessionResources
from services.orchestrator.session.tracks import SessionTracks
from services.orchestrator.session.usual_path import CameBack, Trip

log = structlog.get_logger()

Response = detector_pb2.DetectResponse

# Frames of a live stream read and not yet answered; nearly all of them are dropped ones, waiting
# for an older frame so that answers keep their order.
_LIVE_LIMIT = 256


class Session:
    """Serves one client's stream; answers every frame once, in order.

    Attributes:
        session_id: for logs and status.
        owner: whose session it is; None without TLS.
        dispatcher: has the session's frames served.
    """

    def __init__(
        self,
        session_id: str,
        options: StreamOptions,
        stream: GuardedStream,
        resources: SessionResources,
        *,
        allowance: Allowance = UNLIMITED,
        owner: Optional[Identity] = None,
    ) -> None:
        """Serve the frames of `stream`.

        Args:
            session_id: for logs and status.
            options: those of the stream.
            stream: to be answered by, and whose bytes are accounted for.
            resources: what all sessions share.
            allowance: what its owner's quota leaves.
            owner: whose session it is; None without TLS.

        Raises:
            PreconditionError: the client wants tracks, and the library for it is not installed.
        """
        self.session_id = session_id
        self.owner = owner
        self._tracks = SessionTracks(options)
        self._traces = resources.traces.stream(stream.metadata)
        self.dispatcher = Dispatcher(
            *(session_id, self._tracks.options, resources, stream.account), self._traces.metadata
        )
        self._arrivals = Arrivals(self.dispatcher.video, options.video)
        self._stream = stream
        self._resources = resources
        self._router = resources.router.of(options.model)
        self._allowance = allowance
        self._turns = SessionTurns(resources.crowd)
        self._learning = SessionLearning(
            *(self._router, self.dispatcher.rates, self._turns, resources.metrics),
            window=resources.window,
            is_live=options.overload is OverloadPolicy.DROP_OLDEST,
        )
        self._gate = self._learning.gate
        self._answers = SessionAnswers(session_id, self._router.model, resources)
        self._frames_answered = 0
        self._frames_in_flight = 0

    @property
    def status(self) -> SessionStatus:
        """What is told of the session."""
        return SessionStatus(
            self.session_id,
            self._learning.node_pair,
            self._frames_answered,
            self._frames_in_flight,
            self._learning.codec,
            self.dispatcher.rates.why(self._learning.node_pair),
            self._router.model,
        )

    @property
    def router(self) -> Router:
        """That of its model."""
        return self._router

    async def run(self, requests: ClientRequests) -> None:
        """Serve until the client has sent its last frame, or the server drains.

        Raises:
            InvalidInputError: a frame id does not increase, or options come late.
        """
        learning = self._learning
        slots = learning.slots if self._gate is None else asyncio.Semaphore(_LIVE_LIMIT)
        learning.begin()
        try:
            answers = OrderedAnswers(self._begin, self._write, slots)
            await answers.run(requests, self._resources.draining.wait())
        finally:
            learning.end()
            self._turns.leave_pool()
            await self.dispatcher.close()

    def _begin(self, read: detector_pb2.Frame) -> FrameInFlight:
        """Begin with a frame that was read."""
        self._frames_in_flight += 1
        rates = self.dispatcher.rates
        if rates.chooses and not read.encoded_video.decode_only:
            rates.arrived(time.monotonic())
        arrival = self._arrivals.receive(read)
        frame = FrameInFlight(self, arrival, self._stream.take())
        if not self._send_at_once(frame):
            frame.follow(self._admit_and_answer(arrival))
        return frame

    def _send_at_once(self, frame: FrameInFlight) -> bool:
        """Send a frame on the usual path; returns whether it is one that can be."""
        arrival, usual = frame.arrival, self.dispatcher.usual
        if arrival.place is not None or arrival.refusal is not None:
            return False
        if self._traces.are_on or arrival.frame.traceparent:
            return False
        way = usual.open_way()
        turn = None if way is None else self._turn_at_once()
        if way is None or turn is None:
            return False
        try:
            frame.trip = usual.send(way, arrival.frame, frame)
        finally:
            if frame.trip is None:
                self._leave(turn)
        if frame.trip is None:
            return False
        frame.turn = turn
        self._resources.metrics.in_flight.inc()
        return True

    def _turn_at_once(self) -> Optional[Turn]:
        """A turn for the frame that has just been read, if that needs no wait."""
        if self._gate is None:
            return self._turns.take_at_once()
        return self._gate.enter_at_once() if self._allowance is UNLIMITED else None

    def came_back(self, frame: FrameInFlight, result: stage_pb2.FrameResult) -> None:
        """See `FrameOwner`."""
        trip, turn = self._end_trip(frame)
        arrival, route = frame.arrival, trip.route
        came_back, response = CameBack(trip, result), Response(frame_id=result.frame_id)
        try:
            has_detections = self.dispatcher.usual.accept(trip, result)
            if has_detections:
                self._answers.fill(response, arrival, trip.weight, route, result)
                self._answers.finish(response, arrival, route)
        except Exception as error:
            has_detections, came_back = False, CameBack(trip, error)
        if not has_detections:
            frame.follow(self._go_on(arrival, came_back, turn))
            return
        in_flight = self._frames_in_flight
        frame.settle(response)
        # The writer's turn of the loop comes first: nobody waits for what is learned. It comes
        # before anything else can be read, so that nobody sees what is not learned yet either.
        asyncio.get_running_loop().call_soon(
            self._learn_usual, trip, arrival.frame, response, turn, in_flight
        )

    def _learn_usual(
        self,
        trip: Trip,
        read: detector_pb2.Frame,
        response: Response,
        turn: Turn,
        in_flight: int,
    ) -> None:
        """Learn from a usual frame that was answered."""
        try:
            self.dispatcher.usual.learn(trip, read)
            self._learning.learn(trip.route, response.timing, turn, None, in_flight)
        finally:
            self._leave(turn)

    def was_lost(self, frame: FrameInFlight, error: TandemError) -> None:
        """See `FrameOwner`."""
        trip, turn = self._end_trip(frame)
        self.dispatcher.usual.end(trip)
        came_back = CameBack(trip, trip.used.given_up or error)
        frame.follow(self._go_on(frame.arrival, came_back, turn))

    def given_up(self, frame: FrameInFlight) -> None:
        """See `FrameOwner`."""
        trip, turn = self._end_trip(frame)
        self.dispatcher.usual.give_up(trip)
        self._leave(turn)

    def _end_trip(self, frame: FrameInFlight) -> Tuple[Trip, Turn]:
        """Take a frame off the usual path."""
        self._resources.metrics.in_flight.dec()
        trip, turn = cast(Trip, frame.trip), cast(Turn, frame.turn)
        frame.trip = frame.turn = None
        return trip, turn

    def _leave(self, turn: Turn) -> None:
        if self._gate is None:
            turn.leave()
        else:
            self._gate.leave(turn)

    async def _go_on(self, arrival: Arrival, came_back: CameBack, turn: Turn) -> Response:
        """Answer a frame that has come back from the usual path without detections."""
        try:
            return await self._answer(arrival, NOT_TRACED, turn, came_back)
        finally:
            self._leave(turn)

    async def _admit_and_answer(self, arrival: Arrival) -> Response:
        """Answer a frame that has its slot, unless a newer live frame takes its place."""
        frame = arrival.frame
        ids = {"frame_id": frame.frame_id, "session": self.session_id}
        try:
            with self._traces.frame("frame", frame.traceparent, **ids) as span:
                span.bind_to_logs()
                response = await self._admitted(arrival, span)
                tell_answer(span, response)
                return response
        finally:
            self._arrivals.release(arrival)

    async def _admitted(self, arrival: Arrival, span: Span) -> Response:
        if arrival.refusal is None and arrival.frame.encoded_video.decode_only:
            return self._leave_out(arrival)
        if arrival.refusal is not None:
            return await self._answer(arrival, span)
        if self._gate is None:
            turn = await self._turns.take()
            try:
                return await self._answer(arrival, span, turn)
            finally:
                turn.leave()
        # Frames over the quota make room for newer ones, as those that come too fast do.
        entered = await self._gate.enter() if self._allowance.take_live_frame() else None
        if entered is None:
            return self._drop(arrival)
        try:
            return await self._answer(arrival, span, entered)
        finally:
            self._gate.leave(entered)

    def _drop(self, arrival: Arrival) -> Response:
        """Answer a frame as dropped; one of video is decoded all the same."""
        if arrival.place is not None:
            self.dispatcher.decode_only(arrival.place)
        self._resources.frames.answered(None, "dropped", 0.0, model=self._router.model)
        return _dropped(arrival)

    def _leave_out(self, arrival: Arrival) -> Response:
        """Answer a frame of video that only later ones need; it is sent with the next of them."""
        # At once, if no earlier one waits: a decoder that is past a frame cannot go back to it.
        if arrival.place is not None and self._frames_in_flight == 1:
            self.dispatcher.decode_only(arrival.place)
        return _dropped(arrival)

    async def _answer(
        self,
        arrival: Arrival,
        span: Span,
        turn: Optional[Turn] = None,
        came_back: Optional[CameBack] = None,
    ) -> Response:
        """The answer to a frame: its detections, or why it has none."""
        response = Response(frame_id=arrival.frame.frame_id)
        route: Optional[Route] = None
        needed_bytes = self._arrivals.needed_bytes(arrival)
        try:
            route = await self._serve(arrival, response, span, came_back)
        # Whatever it is, it is this frame's alone: the stream's other frames go on.
        except Exception as error:
            response.error.CopyFrom(error_to_wire(error))
            if not isinstance(error, TandemError):
                log.exception("frame failed in here", session=self.session_id)
        self._answers.finish(response, arrival, route, span)
        if route is not None and turn is not None and response.HasField("detections"):
            self._learning.learn(
                *(route, response.timing, turn, needed_bytes), self._frames_in_flight
            )
        return response

    async def _serve(
        self, arrival: Arrival, response: Response, span: Span, came_back: Optional[CameBack]
    ) -> Route:
        """Have a frame served and write its result into the response.

        Raises:
            TandemError: it could not be served.
        """
        if arrival.refusal is not None:
            raise arrival.refusal
        weight = came_back.trip.weight if came_back else FrameWeight.of(arrival.frame)
        with self._resources.metrics.in_flight.track_inprogress():
            route, result = await self.dispatcher.serve(
                *(arrival.frame, weight, arrival.place), span, came_back=came_back
            )
        self._answers.fill(response, arrival, weight, route, result, span=span)
        return route

    async def _write(self, response: Response) -> None:
        self._frames_in_flight -= 1
        self._tracks.add(response)
        await self._stream.write(response)
        self._frames_answered += 1


def _dropped(arrival: Arrival) -> Response:
    return Response(frame_id=arrival.frame.frame_id, dropped=detector_pb2.Dropped())
