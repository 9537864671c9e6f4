"""Serves one stream of frames: agrees to its opening, then answers each frame, in order."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, AsyncIterator, Generic, Optional, cast

import structlog

from common.bundle import Bundle
from common.domain.detections import DetectionOptions
from common.domain.errors import (
    CallerError,
    InvalidInputError,
    ReferenceMissingError,
    TandemError,
    UnavailableError,
)
from common.domain.placement import ORCHESTRATOR, NodePair, Stage
from common.security.identity import Role
from common.server.authorization import calling_identity
from common.server.guard import GuardedStream, StreamGuard
from common.server.ordered_stream import OrderedAnswers, PendingAnswer
from common.telemetry.metrics import LabelNames, Metrics
from common.telemetry.tracing import Span, Traces
from common.wire.detections import options_from_wire
from common.wire.latent_rates import latent_rates_to_wire
from common.wire.placements import placement_from_wire
from protos.tandem.v1 import stage_pb2
from services.pipeline.frame_under_way import FrameUnderWay
from services.pipeline.loaded_bundle import Core
from services.pipeline.stage_bundles import StageBundles

log = structlog.get_logger()

# grpc.aio.ServicerContext, whose type arguments differ from service to service.
Context = Any


class FramesHeld:
    """Counts the frames that a stage holds, of all callers.

    Attributes:
        count: how many there are now.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.count = 0


@dataclass(frozen=True)
class StageHost(Generic[Core]):
    """What a stage's servicer needs to serve streams.

    Attributes:
        stage: which half is served.
        node: name of this device.
        bundles: those that streams are served with.
        metrics: of this service.
        traces: likewise.
        guard: admits streams.
        senders: the names of senders that the metrics tell apart.
        draining: is set once SIGTERM has come.
        max_frames_in_flight: how many frames of one stream are held at a time.
        held: counts the frames of all streams.
    """

    stage: Stage
    node: str
    bundles: StageBundles[Core]
    metrics: Metrics
    traces: Traces
    guard: StreamGuard
    senders: LabelNames
    draining: asyncio.Event
    max_frames_in_flight: int
    held: FramesHeld = field(default_factory=FramesHeld)

    def raise_if_draining(self) -> None:
        """Raise, if this service is draining, what ends its streams.

        Raises:
            UnavailableError: this service is draining.
        """
        if self.draining.is_set():
            raise UnavailableError(f"{self.node} is draining")


@dataclass(frozen=True)
class StreamFacts:
    """What a stream's opening message says; see `StreamContext` in stage.proto.

    Attributes:
        session_id: for logs.
        nodes: the nodes that serve the stream.
        sender: the sender's label in the metrics.
        options: which detections the client wants.
    """

    session_id: str
    nodes: NodePair
    sender: str
    options: DetectionOptions

    @classmethod
    def of(cls, context: stage_pb2.StreamContext, nodes: NodePair, sender: str) -> StreamFacts:
        """Check the context of a stream, and take it over.

        Args:
            context: of the opening message.
            nodes: the nodes that serve the stream.
            sender: the sender's label in the metrics.

        Raises:
            InvalidInputError: a value is out of range.
        """
        placement_from_wire(context.placement)
        return cls(
            session_id=context.session_id,
            nodes=nodes,
            sender=sender,
            options=options_from_wire(context),
        )


def sender_of(context: stage_pb2.StreamContext) -> str:
    """Who sends: as its certificate says or, without TLS, as the opening message claims."""
    caller = calling_identity()
    if caller is None:
        return context.sender
    return ORCHESTRATOR if caller.role is Role.ORCHESTRATOR else caller.name


async def opening_of(stream: GuardedStream) -> Any:
    """Read the opening of a stream, which is its first message.

    Raises:
        InvalidInputError: there is no message, or it is no opening.
    """
    async for request in stream:
        stream.drop()
        if request.WhichOneof("request") == "open":
            return request.open
        break
    raise InvalidInputError("the first message of a stream has to be `open`")


class FrameStream(ABC):
    """Serves the frames of one stream; subclasses say what a frame is and what is done with it.

    Attributes:
        stage_name: of the stage that serves it.
        placement_name: of the nodes that do.
    """

    def __init__(
        self, host: StageHost[Any], bundle: Bundle, facts: StreamFacts, stream: GuardedStream
    ) -> None:
        """Serve `stream`, whose opening has been read, with this bundle."""
        self.host = host
        self.bundle = bundle
        self.facts = facts
        self.stream = stream
        self.traces = host.traces.stream(stream.metadata)
        # An Enum's value, and a name that is put together, take a call each time.
        self.stage_name = host.stage.value
        self.placement_name = facts.nodes.name

    @abstractmethod
    def size_bytes(self, frame: Any) -> int:
        """The size of the frame's image or features, as received."""

    @abstractmethod
    def serve_frame(self, frame: Any, under_way: FrameUnderWay) -> None:
        """Have the pipeline serve a frame, and tell `passed`; must not wait.

        Raises:
            TandemError: the frame cannot be served.
        """

    @abstractmethod
    def go_on(self, under_way: FrameUnderWay, outcome: Any) -> None:
        """Answer a frame by what the pipeline made of it; must not wait.

        Raises:
            TandemError: the frame cannot be served.
        """

    async def agree(self) -> None:
        """Answer the opening; frames may follow."""
        opened = stage_pb2.Opened(
            node=self.host.node,
            bundle_digest=self.bundle.digest,
            latent_rates=latent_rates_to_wire(self.bundle.manifest),
        )
        self.tell(opened)
        await self.stream.write(stage_pb2.StageResponse(opened=opened))

    def tell(self, opened: stage_pb2.Opened) -> None:  # noqa: B027 - most have nothing to add
        """Add to the answer to the opening what this kind of stage has to tell."""

    def ordered(self) -> OrderedAnswers[Any, stage_pb2.StageResponse]:
        """Make the loop that answers the frames; keeping it would make a reference cycle."""
        slots = asyncio.Semaphore(self.host.max_frames_in_flight)
        return OrderedAnswers(self.begin, self.stream.write, slots)

    @abstractmethod
    def frames(self) -> AsyncIterator[Any]:
        """The frames after the opening.

        Raises:
            InvalidInputError: a message is no frame.
        """

    def begin(self, frame: Any) -> PendingAnswer[stage_pb2.StageResponse]:
        """Begin to serve one frame; its answer holds its detections or its error, and its timing.

        No task works on it: each would cost a lone frame two turns of the event loop.
        """
        pending: PendingAnswer[stage_pb2.StageResponse]
        under_way = FrameUnderWay(self, frame, self.stream.take())
        pending = cast(Any, under_way.pending)
        try:
            self.serve_frame(frame, under_way)
        # Whatever failed, only this frame fails; the others of the stream go on.
        except Exception as error:
            under_way.failed(error)
        return pending

    def span_of(self, frame: Any, size_bytes: int) -> Span:
        """Begin the span of a frame of so many bytes."""
        return self.traces.frame(
            *(self.stage_name, frame.traceparent),
            frame_id=frame.frame_id,
            session=self.facts.session_id,
            node=self.host.node,
            sender=self.facts.sender,
            placement=self.placement_name,
            request_bytes=size_bytes,
        )

    def passed(
        self, under_way: FrameUnderWay, outcome: Any, error: Optional[BaseException]
    ) -> None:
        """The pipeline is done with a frame; called on the event loop.

        Args:
            under_way: the frame.
            outcome: what the pipeline made of it.
            error: why it made nothing.
        """
        if error is not None:
            under_way.failed(error)
        elif under_way.pending is not None:
            try:
                self.go_on(under_way, outcome)
            except Exception as failure:
                under_way.failed(failure)

    def log_failure(self, frame_id: int, error: Exception) -> None:
        """Write to the log why a frame failed."""
        # A frame whose reference is missing is sent again at once.
        is_usual = isinstance(error, (CallerError, ReferenceMissingError))
        write = log.info if is_usual else log.error
        write(
            "frame failed",
            stage=self.host.stage.value,
            session=self.facts.session_id,
            frame=frame_id,
            error=str(error),
            exc_info=None if isinstance(error, TandemError) else error,
        )
