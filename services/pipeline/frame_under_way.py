"""One frame of a stream between its coming and its answer; no task of its own works on it."""

from __future__ import annotations

import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Optional

from common.domain.detections import StageTiming
from common.domain.errors import InternalError, TandemError
from common.domain.placement import Stage
from common.server.account import Charge
from common.server.ordered_stream import PendingAnswer
from common.server.traced_calls import tell_answer
from common.wire.detections import write_stage_timing
from common.wire.errors import error_to_wire
from protos.tandem.v1 import stage_pb2
from services.pipeline.passage import FramePassage

if TYPE_CHECKING:
    from services.pipeline.frame_stream import FrameStream


class FrameUnderWay:
    """Answers a frame exactly once, with its detections or its error, and its timing.

    All is called on the event loop.

    Attributes:
        frame_id: its number.
        span: traces it.
        passage: its way through the pipeline, while it is there.
        pending: gets the answer; None once it has it, or nobody waits for it any more.
    """

    def __init__(self, stream: FrameStream, frame: Any, charge: Charge) -> None:
        """Count a frame that has come; `charge` is what it holds."""
        self.frame_id: int = frame.frame_id
        self.passage: Optional[FramePassage[Any, Any, Any, Any]] = None
        self._stream = stream
        self._charge = charge
        self._size_bytes = stream.size_bytes(frame)
        self.span = stream.span_of(frame, self._size_bytes)
        self._started, self._received_at_seconds = time.perf_counter(), time.time()
        stream.host.metrics.count_bytes(stream.facts.sender, "received", self._size_bytes)
        stream.host.held.count += 1
        self._is_held = True
        self.pending: Optional[PendingAnswer[stage_pb2.StageResponse]] = PendingAnswer(self)

    def served(self, result: stage_pb2.FrameResult, timing: StageTiming) -> None:
        """Answer with what the frame's way through the stage gave."""
        if self.pending is None:
            return
        try:
            self.pending.settle(self._response(result, timing))
        # It would be lost where it was raised, and the frame be answered never.
        except Exception as error:
            self._end_stream(error)

    def failed(self, error: BaseException) -> None:
        """Answer that this frame failed; the others of the stream go on."""
        if self.pending is None:
            return
        if not isinstance(error, Exception):
            self._end_stream(error)
            return
        copy_context().run(self._log, error)
        failure = error_to_wire(self._as_told(error))
        result = stage_pb2.FrameResult(frame_id=self.frame_id, error=failure)
        self.served(result, StageTiming(node=self._stream.host.node))

    def release(self) -> None:
        """The frame has its answer, or was given up; see `Held`."""
        self._charge.release()
        if self._is_held:
            self._leave()
            self.span.fail("CancelledError", "nobody waits for the answer any more")
            self.span.end()
        if self.passage is not None:
            self.passage.is_wanted = False
        # They refer to this.
        self.passage = self.pending = None

    def _leave(self) -> None:
        self._is_held = False
        self._stream.host.held.count -= 1

    def _end_stream(self, error: BaseException) -> None:
        if self.pending is not None:
            self.pending.fail(error)

    def _response(
        self, result: stage_pb2.FrameResult, timing: StageTiming
    ) -> stage_pb2.StageResponse:
        """Put what the stage tells of itself into the result, the metrics and the trace."""
        self._leave()
        stream, span = self._stream, self.span
        host, metrics = stream.host, stream.host.metrics
        timing.held_seconds = time.perf_counter() - self._started
        timing.request_bytes = self._size_bytes
        timing.received_at_seconds = self._received_at_seconds
        timing.power_watts = metrics.sensors.device_watts()
        if host.stage is Stage.BACKBONE:
            result.backbone_in_flight = host.held.count
            write_stage_timing(timing, result.timing.backbone)
        else:
            result.transformer_in_flight = host.held.count
            write_stage_timing(timing, result.timing.transformer)
        metrics.observe_stage(stream.stage_name, timing, span)
        outcome = result.WhichOneof("result") or "error"
        metrics.observe_frame(stream.placement_name, outcome, timing.held_seconds, span)
        if span.trace_id:
            tell_answer(span, result)
            span.add_steps(timing)
            span.end()
        return stage_pb2.StageResponse(result=result)

    def _as_told(self, error: Exception) -> TandemError:
        """What the peer is told of a failure; the words of an unforeseen one stay in the log."""
        if isinstance(error, TandemError):
            return error
        host = self._stream.host
        return InternalError(
            f"the {host.stage.value} on {host.node} failed on this frame "
            f"({type(error).__name__}); the cause is in its log"
        )

    def _log(self, error: Exception) -> None:
        self.span.bind_to_logs()
        self._stream.log_failure(self.frame_id, error)
