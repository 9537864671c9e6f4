"""One attempt to have a frame served: it is sent along a route, and what comes back is judged."""

from __future__ import annotations

from typing import Callable, Optional, Union

import structlog

from common.domain.errors import (
    CallerError,
    PreconditionError,
    ResourceExhaustedError,
    TandemError,
    UnavailableError,
)
from common.domain.placement import Stage
from common.server.traced_calls import tell_answer
from common.telemetry.tracing import NOT_TRACED, Span
from common.wire.detections import checked_result
from common.wire.errors import error_from_wire, error_to_wire, grpc_status
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.routing.router import Router
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.attempts import FrameAttempts
from services.orchestrator.session.deadlines import FrameWeight, Pace
from services.orchestrator.session.groups import NOTHING, Lack, Place
from services.orchestrator.session.route_choice import RouteChoice
from services.orchestrator.session.route_streams import RouteStreams
from services.orchestrator.session.unavailable_routes import Cause

log = structlog.get_logger()

_STAGES = tuple(Stage)


def ignore_sending() -> None:
    """Nothing depends on when the frame is sent."""


class FrameSender:
    """Sends a session's frames, and notes in its route choice how the routes do."""

    def __init__(
        self,
        session_id: str,
        router: Router,
        choice: RouteChoice,
        streams: RouteStreams,
        pace: Pace,
    ) -> None:
        """Send by `streams`; `session_id` is for logs."""
        self._session_id = session_id
        self._router = router
        self._choice = choice
        self._streams = streams
        self._pace = pace

    async def send(
        self,
        route: Route,
        frame: detector_pb2.Frame,
        weight: FrameWeight,
        attempts: FrameAttempts,
        place: Optional[Place] = None,
        *,
        on_sent: Callable[[], None] = ignore_sending,
        span: Span = NOT_TRACED,
    ) -> Optional[stage_pb2.FrameResult]:
        """Have a frame served on a route.

        Args:
            route: that the frame takes.
            frame: to be served.
            weight: of this frame.
            attempts: takes note of this one.
            place: of the frame in the session's video; None if it is a picture.
            on_sent: called when the route is open and the frame about to be sent.
            span: of the frame, if it is traced.

        Returns:
            The frame's own result, with detections or with an error that is the frame's fault;
            None where the attempt says nothing of the frame, which may be sent again.

        Raises:
            ResourceExhaustedError: there is room for other frames, but not for this one.
        """
        under_way = False

        def note_sent() -> None:
            nonlocal under_way
            under_way = True
            on_sent()

        with _call(span, route, attempts, weight) as call:
            frame.traceparent = call.traceparent

            def extra_seconds(lack: Lack) -> float:
                call.tell(decode_only_frames=len(lack.frames) or None)
                return self._pace.extra_seconds(self.cost_seconds(route, weight, lack))

            try:
                result = await self._streams.ask(
                    *(route, frame, place), extra_seconds=extra_seconds, on_sent=note_sent
                )
                self._router.table.note_result(route, result)
                checked_result(result, route.backbone.name, _STAGES)
            except TandemError as error:
                call.fail(grpc_status(error).name, str(error))
                self._judge_failed_call(route, frame, attempts, error, under_way=under_way)
                return None
            call.tell(transfer_seconds=result.timing.backbone.transfer_seconds)
            tell_answer(call, result)
        return self._judge_result(route, frame, attempts, result)

    def judge(
        self,
        route: Route,
        frame: detector_pb2.Frame,
        attempts: FrameAttempts,
        outcome: Union[stage_pb2.FrameResult, Exception],
    ) -> Optional[stage_pb2.FrameResult]:
        """Judge what a frame came back with that was sent already; returns and raises as `send`.

        Args:
            route: that the frame took.
            frame: that was to be served.
            attempts: takes note of this one.
            outcome: its result; or why there is none that could be used.
        """
        if isinstance(outcome, TandemError):
            self._judge_failed_call(route, frame, attempts, outcome, under_way=True)
            return None
        if isinstance(outcome, Exception):
            raise outcome
        return self._judge_result(route, frame, attempts, outcome)

    def lack(self, route: Route, place: Place) -> Optional[Lack]:
        """See `RouteStreams.lack`."""
        return self._streams.lack(route, place)

    def cost_seconds(self, route: Route, weight: FrameWeight, lack: Lack = NOTHING) -> float:
        """The most that a frame of this weight may take on a route for its size.

        What is sent before it counts as well.
        """
        return weight.cost_seconds(self._router.measurements.link_bytes_per_second(route), lack)

    def _judge_failed_call(
        self,
        route: Route,
        frame: detector_pb2.Frame,
        attempts: FrameAttempts,
        error: TandemError,
        *,
        under_way: bool,
    ) -> None:
        """The route's stream could not be opened, or it ended before the frame was answered."""
        if isinstance(error, PreconditionError):
            self._route_failed(route, Cause.INCOMPATIBLE, error, frame)
        elif isinstance(error, ResourceExhaustedError):
            self._route_failed(route, Cause.FULL, error, frame)
            if under_way:
                attempts.rejected(route, error)
        elif isinstance(error, UnavailableError):
            self._route_failed(route, Cause.FAILED, error, frame)
            if under_way:
                self._note_interrupted(route, attempts)
        else:
            # The stage broke the protocol, or says so of us.
            self._route_failed(route, Cause.FAILED, error, frame)
            attempts.server_failed(route, route.backbone, error)

    def _judge_result(
        self,
        route: Route,
        frame: detector_pb2.Frame,
        attempts: FrameAttempts,
        result: stage_pb2.FrameResult,
    ) -> Optional[stage_pb2.FrameResult]:
        """The result, if it is what the frame itself deserves; None if it may be sent again."""
        if result.WhichOneof("result") == "detections":
            return result
        error = error_from_wire(result.error)
        if isinstance(error, CallerError):
            # Not as it came: a stage may say any number of words.
            result.error.CopyFrom(error_to_wire(error))
            return result
        if isinstance(error, UnavailableError):
            self._route_failed(route, Cause.FAILED, error, frame)
            self._note_interrupted(route, attempts)
        elif isinstance(error, ResourceExhaustedError):
            self._route_failed(route, Cause.FULL, error, frame)
            attempts.rejected(route, error)
        else:
            server = route.transformer if result.timing.HasField("transformer") else route.backbone
            attempts.server_failed(route, server, error)
            self._log_retry(route, error, frame)
        return None

    def _note_interrupted(self, route: Route, attempts: FrameAttempts) -> None:
        # One that says that it serves no more has brought itself down in good order.
        if not any(self._router.ends_in_good_order(server) for server in route.servers):
            attempts.route_failed(route)

    def _route_failed(
        self, route: Route, cause: Cause, error: TandemError, frame: detector_pb2.Frame
    ) -> None:
        self._choice.failed(route, cause, error)
        self._log_retry(route, error, frame)

    def _log_retry(self, route: Route, error: TandemError, frame: detector_pb2.Frame) -> None:
        log.info(
            "frame to be sent again",
            session=self._session_id,
            frame=frame.frame_id,
            left=route.node_pair.name,
            reason=str(error),
        )


def _call(span: Span, route: Route, attempts: FrameAttempts, weight: FrameWeight) -> Span:
    return span.call(
        "transfer",
        node=route.backbone.node,
        placement=route.node_pair.name,
        request_bytes=weight.data_bytes,
        is_retry=attempts.is_retry,
    )
