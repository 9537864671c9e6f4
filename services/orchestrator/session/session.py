"""One client's stream, from its first frame to its last answer.

A frame is received and checked (`ClientRequests.frames`), waits for its slot (`WindowSlots`, taken
by `OrderedStream`; of a live stream also `NewestWinsGate`), is sent along a route and again along
another one where that is needed (`Dispatcher.serve`), and is answered in the order of the frames.
"""

from __future__ import annotations

import asyncio
import time
from typing import AsyncIterator, Optional

import structlog

from common.domain.codec import Codec
from common.domain.detections import OverloadPolicy, StreamOptions
from common.domain.errors import TandemError
from common.domain.placement import NodePair, Stage
from common.domain.status import SessionStatus
from common.security.identity import Identity
from common.server.guard import GuardedStream
from common.server.ordered_stream import OrderedStream
from common.server.traced_calls import tell_answer
from common.telemetry.tracing import Span
from common.wire.errors import error_to_wire
from common.wire.frames import known_codec_from_wire
from common.wire.placements import placement_to_wire
from protos.tandem.v1 import detection_pb2, detector_pb2
from services.orchestrator.routing.router import Router
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.arrivals import Arrival, Arrivals
from services.orchestrator.session.crowd import SessionTurns, Turn
from services.orchestrator.session.deadlines import FrameWeight
from services.orchestrator.session.dispatcher import Dispatcher
from services.orchestrator.session.gate import NewestWinsGate, WindowSlots
from services.orchestrator.session.quotas import UNLIMITED, Allowance
from services.orchestrator.session.requests import ClientRequests
from services.orchestrator.session.resources import SessionResources
from services.orchestrator.session.tracks import SessionTracks
from services.orchestrator.session.window import MIN_WINDOW, Transfer, WindowEstimator

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
        is_live = options.overload is OverloadPolicy.DROP_OLDEST
        self._turns = SessionTurns(resources.crowd)
        self._gate = NewestWinsGate(MIN_WINDOW, self._turns) if is_live else None
        self._estimator = WindowEstimator(is_live=is_live)
        self._adapts_window = is_live or not resources.window
        self._slots = WindowSlots(resources.window or self._estimator.window)
        self._node_pair: Optional[NodePair] = None
        self._codec: Optional[Codec] = None
        self._frames_answered = 0
        self._frames_in_flight = 0

    @property
    def status(self) -> SessionStatus:
        """What is told of the session."""
        return SessionStatus(
            self.session_id,
            self._node_pair,
            self._frames_answered,
            self._frames_in_flight,
            self._codec,
            self.dispatcher.rates.why(self._node_pair),
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
        slots = self._slots if self._gate is None else asyncio.Semaphore(_LIVE_LIMIT)
        stream = OrderedStream(self._admit_and_answer, self._write, slots, self._stream.take)
        self._resources.metrics.window.inc(self._slots.size)
        try:
            await stream.run(self._received(requests), self._resources.draining.wait())
        finally:
            self._resize_window(0)
            self._turns.leave_pool()
            await self.dispatcher.close()

    async def _received(self, requests: ClientRequests) -> AsyncIterator[Arrival]:
        async for frame in requests.frames():
            self._frames_in_flight += 1
            if not frame.encoded_video.decode_only:
                self.dispatcher.rates.arrived(time.monotonic())
            yield self._arrivals.receive(frame)
            # It may be large, and the next may be long in coming.
            del frame

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
            turn = self._turns.take_at_once() or await self._turns.take()
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

    async def _answer(self, arrival: Arrival, span: Span, turn: Optional[Turn] = None) -> Response:
        """The answer to a frame: its detections, or why it has none."""
        response = Response(frame_id=arrival.frame.frame_id)
        route: Optional[Route] = None
        needed_bytes = self._arrivals.needed_bytes(arrival)
        try:
            route = await self._serve(arrival, response, span)
        # Whatever it is, it is this frame's alone: the stream's other frames go on.
        except Exception as error:
            response.error.CopyFrom(error_to_wire(error))
            if not isinstance(error, TandemError):
                log.exception("frame failed in here", session=self.session_id)
        response.timing.total_seconds = arrival.elapsed_seconds
        response.timing.received_at_seconds = arrival.unix_seconds
        self._note_answer(response, route, needed_bytes, span, turn)
        return response

    async def _serve(self, arrival: Arrival, response: Response, span: Span) -> Route:
        """Have a frame served and write its result into the response.

        Raises:
            TandemError: it could not be served.
        """
        if arrival.refusal is not None:
            raise arrival.refusal
        metrics, weight = self._resources.metrics, FrameWeight.of(arrival.frame)
        with metrics.in_flight.track_inprogress():
            route, result = await self.dispatcher.serve(
                *(arrival.frame, weight, arrival.place), span
            )
        # Fewer than its own if it was encoded for the link. With a frame of video these are its own
        # and those of others, which are counted by themselves.
        sent_bytes = result.timing.backbone.request_bytes if arrival.place is None else 0
        sent_bytes = sent_bytes or weight.data_bytes
        metrics.count_bytes(route.backbone.node, "sent", sent_bytes)
        seconds = result.timing.backbone.transfer_seconds
        metrics.observe_transfer(Stage.BACKBONE.value, seconds, span)
        span.tell(placement=route.node_pair.name, request_bytes=sent_bytes)
        response.placement = placement_to_wire(route.node_pair.placement)
        response.timing.CopyFrom(result.timing)
        if result.WhichOneof("result") == "error":
            response.error.CopyFrom(result.error)
        else:
            response.detections.CopyFrom(result.detections)
        return route

    def _note_answer(
        self,
        response: Response,
        route: Optional[Route],
        needed_bytes: Optional[int],
        span: Span,
        turn: Optional[Turn],
    ) -> None:
        """Log and count an answer, and learn from one with detections."""
        outcome = response.WhichOneof("result") or "error"
        if outcome == "error":
            log.warning(
                "frame failed",
                session=self.session_id,
                frame=response.frame_id,
                error=response.error.message,
            )
        elif route is not None and turn is not None:
            self._learn(route, response.timing, needed_bytes, turn)
        node_pair = route.node_pair if route else None
        seconds = response.timing.total_seconds
        self._resources.frames.answered(node_pair, outcome, seconds, span, model=self._router.model)

    async def _write(self, response: Response) -> None:
        self._frames_in_flight -= 1
        self._tracks.add(response)
        await self._stream.write(response)
        self._frames_answered += 1

    def _learn(
        self,
        route: Route,
        timing: detection_pb2.Timing,
        needed_bytes: Optional[int],
        turn: Turn,
    ) -> None:
        """Learn from an answer how fast the route is, and how many frames should be in flight."""
        if route.node_pair != self._node_pair:
            self._node_pair = route.node_pair
            self._estimator.reset()
            self._turns.join(route.node_pair)
        window_is_full = self._frames_in_flight >= self._slots.size
        backlogged = window_is_full if self._gate is None else self._gate.crowded
        self._router.served(route, timing, backlogged=backlogged, frame_bytes=needed_bytes)
        self._learn_rate(route.node_pair, timing, backlogged=backlogged)
        self._adapt_windows(timing, backlogged, turn)

    def _learn_rate(
        self, node_pair: NodePair, timing: detection_pb2.Timing, *, backlogged: bool
    ) -> None:
        self._codec = known_codec_from_wire(timing.backbone.codec)
        estimates = self._router.measurements.estimates
        link = estimates.link(node_pair.backbone, node_pair.transformer)
        self.dispatcher.rates.answered(
            node_pair,
            timing,
            backlogged=backlogged,
            round_trip_seconds=link.latency_seconds if link else 0.0,
            now=time.monotonic(),
        )

    def _adapt_windows(self, timing: detection_pb2.Timing, backlogged: bool, turn: Turn) -> None:
        backbone, transformer = timing.backbone, timing.transformer
        queue_seconds = backbone.queue_seconds + transformer.queue_seconds
        transfers = _transfer(backbone), _transfer(transformer)
        execute_seconds = backbone.execute_seconds + transformer.execute_seconds
        turn.learn(queue_seconds, execute_seconds, transfers)
        if not self._adapts_window:
            return
        if not backlogged:
            self._estimator.pause()
            return
        self._estimator.observe(
            time.perf_counter(),
            timing.total_seconds,
            queue_seconds + turn.waited_seconds,
            transfers,
            max(backbone.execute_seconds, transformer.execute_seconds),
        )
        if self._gate is None:
            self._resize_window(self._estimator.window)
        else:
            self._gate.resize(self._estimator.window)

    def _resize_window(self, size: int) -> None:
        self._resources.metrics.window.inc(size - self._slots.size)
        self._slots.resize(size)


def _dropped(arrival: Arrival) -> Response:
    return Response(frame_id=arrival.frame.frame_id, dropped=detector_pb2.Dropped())


def _transfer(timing: detection_pb2.StageTiming) -> Transfer:
    return Transfer(timing.request_bytes, timing.transfer_seconds)
