"""Writes what a stage found into a client's answer, and counts each answer."""

from __future__ import annotations

from typing import Optional

import structlog

from common.domain.placement import Stage
from common.telemetry.tracing import NOT_TRACED, Span
from common.wire.placements import placement_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.arrivals import Arrival
from services.orchestrator.session.deadlines import FrameWeight
from services.orchestrator.session.resources import SessionResources

log = structlog.get_logger()


class SessionAnswers:
    """Makes one session's answers; nothing here waits."""

    def __init__(self, session_id: str, model: str, resources: SessionResources) -> None:
        """Count in `resources`, for the frames of `model`; `session_id` is for logs."""
        self._session_id = session_id
        self._model = model
        self._frames = resources.frames
        self._metrics = resources.metrics

    def fill(
        self,
        response: detector_pb2.DetectResponse,
        arrival: Arrival,
        weight: FrameWeight,
        route: Route,
        result: stage_pb2.FrameResult,
        *,
        span: Span = NOT_TRACED,
    ) -> None:
        """Write a result into its response, and count what was sent for it.

        Args:
            response: to write into.
            arrival: the frame.
            weight: of the frame.
            route: that it took.
            result: what came back.
            span: of the frame, if it is traced.
        """
        metrics, backbone = self._metrics, result.timing.backbone
        # Fewer than its own if it was encoded for the link. With a frame of video these are its own
        # and those of others, which are counted by themselves.
        sent_bytes = backbone.request_bytes if arrival.place is None else 0
        sent_bytes = sent_bytes or weight.data_bytes
        metrics.count_bytes(route.backbone.node, "sent", sent_bytes)
        metrics.observe_transfer(Stage.BACKBONE.value, backbone.transfer_seconds, span)
        span.tell(placement=route.node_pair.name, request_bytes=sent_bytes)
        response.placement = placement_to_wire(route.node_pair.placement)
        response.timing.CopyFrom(result.timing)
        if result.WhichOneof("result") == "error":
            response.error.CopyFrom(result.error)
        else:
            response.detections.CopyFrom(result.detections)

    def finish(
        self,
        response: detector_pb2.DetectResponse,
        arrival: Arrival,
        route: Optional[Route],
        span: Span = NOT_TRACED,
    ) -> None:
        """Tell in an answer how long it took; log it if it is an error, and count it.

        Args:
            response: the answer, complete but for that.
            arrival: the frame.
            route: that it took; None if it was not served.
            span: of the frame, if it is traced.
        """
        timing = response.timing
        timing.total_seconds = seconds = arrival.elapsed_seconds
        timing.received_at_seconds = arrival.unix_seconds
        outcome = response.WhichOneof("result") or "error"
        if outcome == "error":
            log.warning(
                "frame failed",
                session=self._session_id,
                frame=response.frame_id,
                error=response.error.message,
            )
        node_pair = route.node_pair if route else None
        self._frames.answered(node_pair, outcome, seconds, span, model=self._model)
