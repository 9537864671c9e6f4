"""What the servicers of both stages share: their streams' opening, each frame's answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any, AsyncIterator, Awaitable, Callable, Tuple

import structlog

from common.bundle import Bundle
from common.domain.detections import DetectionOptions
from common.domain.errors import (
    CallerError,
    InternalError,
    InvalidInputError,
    TandemError,
    UnavailableError,
)
from common.domain.placement import NodePair, Stage
from common.domain.timing import StageTiming
from common.server.guard import GuardedStream, StreamGuard
from common.telemetry.metrics import LabelNames, Metrics
from common.wire.detections import options_from_wire, stage_timing_to_wire
from common.wire.placements import placement_from_wire
from common.wire.status import status_to_wire
from protos.tandem.v1 import stage_pb2

log = structlog.get_logger()

# grpc.aio.ServicerContext, whose type arguments differ from service to service.
Context = Any
# Serves one frame: its result, and the timing of the steps that the stage itself took.
Work = Callable[[], Awaitable[Tuple[stage_pb2.FrameResult, StageTiming]]]


@dataclass(frozen=True)
class StageHost:
    """What a stage's servicer runs in.

    Attributes:
        stage: which half is served.
        node: name of this device.
        bundle: the model served.
        metrics: of this service.
        guard: admits streams.
        senders: names of those who send, as the metrics know them.
        draining: set once SIGTERM has come.
        max_frames_in_flight: frames of one stream held at a time.
    """

    stage: Stage
    node: str
    bundle: Bundle
    metrics: Metrics
    guard: StreamGuard
    senders: LabelNames
    draining: asyncio.Event
    max_frames_in_flight: int

    def slots(self) -> asyncio.Semaphore:
        """Room for one stream's frames."""
        return asyncio.Semaphore(self.max_frames_in_flight)

    def opened(self) -> stage_pb2.StageResponse:
        """The answer to a stream's opening."""
        opened = stage_pb2.Opened(node=self.node, bundle_digest=self.bundle.digest)
        return stage_pb2.StageResponse(opened=opened)

    def raise_if_draining(self) -> None:
        """End a stream that was cut short by the drain with the reason.

        Raises:
            UnavailableError: this service is draining.
        """
        if self.draining.is_set():
            raise UnavailableError(f"{self.node} is draining")


@dataclass(frozen=True)
class StreamFacts:
    """What is known of a stream from its opening message; see `StreamContext` in stage.proto.

    Attributes:
        session_id: for logs.
        placement: name of the nodes that serve the stream, for metrics.
        sender: who sends its requests, as the metrics know them.
        options: which detections are wanted.
    """

    session_id: str
    placement: str
    sender: str
    options: DetectionOptions

    @classmethod
    def of(cls, context: stage_pb2.StreamContext, nodes: NodePair, sender: str) -> StreamFacts:
        """Check and take over the context of a stream that these nodes serve.

        Args:
            context: as the opening message tells it.
            nodes: that serve the stream.
            sender: label of who sends.

        Raises:
            InvalidInputError: a value is out of range.
        """
        placement_from_wire(context.placement)
        return cls(
            session_id=context.session_id,
            placement=nodes.name,
            sender=sender,
            options=options_from_wire(context),
        )


async def opening_of(stream: GuardedStream) -> Any:
    """The opening of a stream: its first message.

    Raises:
        InvalidInputError: there is no message, or another one.
    """
    async for request in stream:
        stream.drop()
        if request.WhichOneof("request") == "open":
            return request.open
        break
    raise InvalidInputError("the first message of a stream has to be `open`")


async def frames_of(requests: AsyncIterator[Any], kind: str) -> AsyncIterator[Any]:
    """The messages after the opening.

    Raises:
        InvalidInputError: one is not of this kind.
    """
    async for request in requests:
        if request.WhichOneof("request") != kind:
            raise InvalidInputError(f"every message after `open` has to be `{kind}`")
        yield request
        # It may be large, and the next may be long in coming.
        del request


async def answer_frame(
    host: StageHost, facts: StreamFacts, frame_id: int, request_bytes: int, work: Work
) -> stage_pb2.StageResponse:
    """Serve one frame: its detections or its error, timed, counted and logged.

    Args:
        host: what the stage runs in.
        facts: of the frame's stream.
        frame_id: of the frame.
        request_bytes: of its image or features, as received.
        work: serves it.
    """
    started, received_at_seconds = time.perf_counter(), time.time()
    metrics, stage = host.metrics, host.stage
    metrics.count_bytes(facts.sender, "received", request_bytes)
    timing = StageTiming(node=host.node)
    with metrics.in_flight.track_inprogress():
        try:
            result, timing = await work()
        # Whatever it is, it is this frame's alone: the stream's other frames go on.
        except Exception as error:
            failure = _as_told(error, stage, host.node)
            result = stage_pb2.FrameResult(frame_id=frame_id, error=status_to_wire(failure))
            _log_failure(stage, facts, frame_id, error)
    timing = replace(
        timing,
        held_seconds=time.perf_counter() - started,
        request_bytes=request_bytes,
        received_at_seconds=received_at_seconds,
        power_watts=metrics.sensors.device_watts(),
    )
    own = result.timing.backbone if stage is Stage.BACKBONE else result.timing.transformer
    own.CopyFrom(stage_timing_to_wire(timing))
    metrics.observe_stage(stage.value, timing)
    outcome = result.WhichOneof("result") or "error"
    metrics.observe_frame(facts.placement, outcome, timing.held_seconds)
    return stage_pb2.StageResponse(result=result)


def _as_told(error: Exception, stage: Stage, node: str) -> TandemError:
    """What the peer is told of a failure; of one that nobody foresaw, not its words."""
    if isinstance(error, TandemError):
        return error
    return InternalError(
        f"the {stage.value} on {node} failed on this frame ({type(error).__name__}); "
        "the cause is in its log"
    )


def _log_failure(stage: Stage, facts: StreamFacts, frame_id: int, error: Exception) -> None:
    write = log.info if isinstance(error, CallerError) else log.error
    write(
        "frame failed",
        stage=stage.value,
        session=facts.session_id,
        frame=frame_id,
        error=str(error),
        exc_info=None if isinstance(error, TandemError) else error,
    )
