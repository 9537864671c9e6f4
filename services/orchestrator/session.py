"""One client's stream."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, AsyncIterator, Awaitable, Callable, Optional

import structlog

from common.domain.errors import InvalidInputError, TandemError
from common.domain.placement import NodePair, Stage
from common.server.guard import GuardedStream
from common.server.ordered_stream import OrderedStream
from common.wire.detections import checked_threshold
from common.wire.errors import error_to_wire
from common.wire.frames import codec_from_wire
from common.wire.placements import placement_to_wire, requested_pair_from_wire
from protos.tandem.v1 import detection_pb2, detector_pb2
from services.orchestrator.deadlines import FrameWeight
from services.orchestrator.dispatch import Dispatcher
from services.orchestrator.gate import NewestWinsGate
from services.orchestrator.placement import Route
from services.orchestrator.system import System
from services.orchestrator.window import Transfer, WindowEstimator, WindowSlots

log = structlog.get_logger()

Frame = detector_pb2.Frame
Response = detector_pb2.DetectResponse

# One frame in each stage: more would only wait, and a live frame that waits grows old.
_LIVE_SLOTS = 2
# Frames of a live stream read and not yet answered; nearly all of them are dropped ones, waiting
# for an older frame so that answers keep their order.
_LIVE_LIMIT = 256


@dataclass(frozen=True)
class _Arrival:
    """When a frame was read: by `time.perf_counter`, to measure from; by the clock, to tell."""

    ticks: float
    unix_seconds: float

    @classmethod
    def now(cls) -> _Arrival:
        return cls(time.perf_counter(), time.time())


class Session:
    """Serves one client's stream; answers every frame once, in order.

    Attributes:
        session_id: for logs and status.
        pair: nodes that served the latest frame; None before the first.
        frames_answered: so far.
        frames_in_flight: read and not yet answered.
    """

    def __init__(self, session_id: str, system: System) -> None:
        """Serve with what `system` knows and has."""
        self.session_id = session_id
        self.pair: Optional[NodePair] = None
        self.frames_answered = 0
        self.frames_in_flight = 0
        self._system = system
        self._dispatcher: Dispatcher
        self._gate = NewestWinsGate(_LIVE_SLOTS)
        self._estimator = WindowEstimator()
        self._slots = WindowSlots(system.window or self._estimator.window)
        self._live = False
        self._adaptive = False

    async def run(self, requests: GuardedStream) -> None:
        """Serve until the client has sent its last frame, or the server drains.

        Raises:
            InvalidInputError: a frame id does not increase, or the options are wrong or late.
        """
        first = await _next(requests)
        if first is None:
            return
        options = _checked_options(first)
        if first.WhichOneof("request") == "options":
            requests.drop()
        wanted = requested_pair_from_wire(
            options.placement, options.backbone_node, options.transformer_node
        )
        self._dispatcher = self._system.dispatcher(
            self.session_id, wanted, options, requests.account
        )
        self._live = live = options.overload == detector_pb2.OVERLOAD_DROP_OLDEST
        self._adaptive = not live and not self._system.window
        stream = OrderedStream(
            self._serve_or_drop if live else self._serve,
            self._counted(requests.write),
            asyncio.Semaphore(_LIVE_LIMIT) if live else self._slots,
            requests.take,
        )
        frames = self._frames(first, requests)
        # It may be a large frame, and the stream a long one.
        del first
        self._system.metrics.window.inc(self._slots.size)
        try:
            await stream.run(frames, self._system.draining.wait())
        finally:
            self._resize(0)
            await self._system.dismiss(self._dispatcher)

    async def _frames(
        self, request: Optional[detector_pb2.DetectRequest], requests: AsyncIterator[Any]
    ) -> AsyncIterator[Frame]:
        """The frames of the stream, from the first `request` on, each with a greater id."""
        latest = -1
        if request is not None and request.WhichOneof("request") == "options":
            request = await _next(requests)
        while request is not None:
            if request.WhichOneof("request") != "frame":
                raise InvalidInputError(f"after frame {latest}: options have to come first, once")
            if request.frame.frame_id <= latest:
                raise InvalidInputError(
                    f"frame id {request.frame.frame_id} does not increase: {latest} came before"
                )
            latest = request.frame.frame_id
            self.frames_in_flight += 1
            yield request.frame
            # It may be large, and the next may be long in coming.
            del request
            request = await _next(requests)

    def _counted(
        self, write: Callable[[Response], Awaitable[None]]
    ) -> Callable[[Response], Awaitable[None]]:
        async def counted(response: Response) -> None:
            self.frames_in_flight -= 1
            await write(response)
            self.frames_answered += 1

        return counted

    async def _serve_or_drop(self, frame: Frame) -> Response:
        arrival = _Arrival.now()
        if not await self._gate.enter():
            response = Response(frame_id=frame.frame_id, dropped=detector_pb2.Dropped())
            self._system.count(None, "dropped", 0.0)
            return response
        try:
            return await self._serve_since(arrival, frame)
        finally:
            self._gate.leave()

    async def _serve(self, frame: Frame) -> Response:
        return await self._serve_since(_Arrival.now(), frame)

    async def _serve_since(self, arrival: _Arrival, frame: Frame) -> Response:
        response = Response(frame_id=frame.frame_id)
        route: Optional[Route] = None
        try:
            route = await self._fill(response, frame)
        # Whatever it is, it is this frame's alone: the stream's other frames go on.
        except Exception as error:
            response.error.CopyFrom(error_to_wire(error))
            if not isinstance(error, TandemError):
                log.exception("frame failed in here", session=self.session_id)
        elapsed_seconds = time.perf_counter() - arrival.ticks
        response.timing.total_seconds = elapsed_seconds
        response.timing.received_at_seconds = arrival.unix_seconds
        outcome = response.WhichOneof("result") or "error"
        if outcome == "error":
            message = response.error.message
            log.warning(
                "frame failed", session=self.session_id, frame=frame.frame_id, error=message
            )
        elif route is not None:
            self._learn(route, response.timing)
        self._system.count(route.pair if route else None, outcome, elapsed_seconds)
        return response

    async def _fill(self, response: Response, frame: Frame) -> Route:
        metrics = self._system.metrics
        weight = FrameWeight.of(frame)
        with metrics.in_flight.track_inprogress():
            route, result = await self._dispatcher.detect(frame, weight)
        metrics.count_bytes(route.backbone.node, "sent", weight.data_bytes)
        metrics.stage_seconds.labels(Stage.BACKBONE.value, "transfer").observe(
            result.timing.backbone.transfer_seconds
        )
        response.placement = placement_to_wire(route.pair.placement)
        response.timing.CopyFrom(result.timing)
        if result.WhichOneof("result") == "error":
            response.error.CopyFrom(result.error)
        else:
            response.detections.CopyFrom(result.detections)
        return route

    def _learn(self, route: Route, timing: detection_pb2.Timing) -> None:
        """Learn from an answer how fast the route is, and how many frames should be in flight."""
        if route.pair != self.pair:
            self.pair = route.pair
            self._estimator.reset()
        filled = self.frames_in_flight >= self._slots.size
        backlogged = self._gate.crowded if self._live else filled
        self._system.router.observe(route, timing, backlogged)
        if self._adaptive:
            self._adapt_window(timing, backlogged)

    def _adapt_window(self, timing: detection_pb2.Timing, backlogged: bool) -> None:
        """Learn from an answer how many frames should be in flight."""
        if not backlogged:
            self._estimator.pause()
            return
        backbone, transformer = timing.backbone, timing.transformer
        self._estimator.observe(
            time.perf_counter(),
            timing.total_seconds,
            backbone.queue_seconds + transformer.queue_seconds,
            (_transfer(backbone), _transfer(transformer)),
        )
        self._resize(self._estimator.window)

    def _resize(self, size: int) -> None:
        self._system.metrics.window.inc(size - self._slots.size)
        self._slots.resize(size)


def _transfer(timing: detection_pb2.StageTiming) -> Transfer:
    return Transfer(timing.request_bytes, timing.transfer_seconds)


async def _next(requests: AsyncIterator[Any]) -> Optional[detector_pb2.DetectRequest]:
    """The next request; None after the last."""
    async for request in requests:
        return request  # type: ignore[no-any-return]
    return None


def _checked_options(first: detector_pb2.DetectRequest) -> detector_pb2.StreamOptions:
    """The options of a stream: its first message, or all defaults.

    Raises:
        InvalidInputError: a value is out of range, saying which.
    """
    # A copy: what is part of a message keeps all of it, which may be a frame.
    options = detector_pb2.StreamOptions()
    options.CopyFrom(first.options)
    codec_from_wire(options.codec)
    if options.HasField("score_threshold"):
        checked_threshold(options.score_threshold)
    if options.overload not in detector_pb2.OverloadPolicy.values():
        raise InvalidInputError(f"unknown overload policy {options.overload}")
    return options
