"""Single pictures through the orchestrator's streams, for doors whose callers send no streams."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import NamedTuple

import structlog

from common.domain.detections import DetectionOptions
from common.domain.errors import InternalError, InvalidInputError, TandemError, UnavailableError
from common.domain.frames import Image
from common.domain.models import DEFAULT_MODEL
from common.wire.errors import INTERNAL_FAILURE_MESSAGE
from services.gateway.picture_metrics import PictureMetrics
from services.gateway.traced_requests import current_traceparent
from tandem.client import DetectorClient
from tandem.results import FrameResult
from tandem.supply import TracedFrame

log = structlog.get_logger()

IDLE_SECONDS = 20.0
"""A stream that has served nothing for so long is closed."""

# A stream's threshold is that of its callers rounded down to this, so that few streams serve many
# thresholds; what a caller did not ask for is left out here.
_THRESHOLD_STEP = 0.05


class DetectionPool:
    """Answers one picture at a time on each of a few streams, in the order of the callers' coming.

    A stream has one picture in flight. So nobody waits behind the picture of another while a stream
    is free, and what ends a stream, such as a picture that is too large for the orchestrator or a
    caller that leaves, concerns the one whose picture it is.
    """

    def __init__(self, client: DetectorClient, streams: int, metrics: PictureMetrics) -> None:
        """No stream is open yet.

        Args:
            client: of the orchestrator. One that does not reconnect tells callers at once that the
                orchestrator is away.
            streams: pictures that are served at a time.
            metrics: of the pictures.
        """
        self._client = client
        self._metrics = metrics
        self._most = streams
        # Wakes those who wait in the order of their coming.
        self._places = asyncio.Semaphore(streams)
        self._open: set[_Stream] = set()
        # The stream that was used last stands last.
        self._idle: dict[_Stream, asyncio.TimerHandle] = {}

    async def detect(
        self, image: Image, wanted: DetectionOptions, model: str = DEFAULT_MODEL
    ) -> FrameResult:
        """The result of one picture by a model; an error of the picture's own is in the result.

        Raises:
            InvalidInputError: `wanted` is out of range.
            TandemError: it could not be served.
        """
        kind = _StreamKind(_stream_threshold(wanted), model)
        came_at = time.perf_counter()
        outcome = "failed"
        try:
            async with self._places:
                result = await self._ask(image, kind)
            if result.dropped:
                raise UnavailableError("the orchestrator dropped the picture")
            outcome = "error" if result.error else "detections"
        except asyncio.CancelledError:
            outcome = "left"
            raise
        finally:
            self._metrics.pictures.labels(outcome).inc()
        self._metrics.seconds.observe(time.perf_counter() - came_at)
        return _within(result, wanted)

    async def close(self) -> None:
        """Close all streams; what is in flight fails."""
        for handle in self._idle.values():
            handle.cancel()
        self._idle.clear()
        await asyncio.gather(*(stream.cancel() for stream in tuple(self._open)))

    async def _ask(self, image: Image, kind: _StreamKind) -> FrameResult:
        stream = self._take_idle(kind)
        if stream is not None:
            try:
                return await self._asked(stream, image)
            except UnavailableError:
                # It may have ended while it idled, as when the orchestrator was started anew.
                pass
        return await self._asked(self._opened(kind), image)

    async def _asked(self, stream: _Stream, image: Image) -> FrameResult:
        try:
            result = await stream.ask(image)
        except asyncio.CancelledError:
            # The caller has left: the picture need not be served.
            stream.cancel_soon()
            raise
        if stream in self._open:
            loop = asyncio.get_running_loop()
            self._idle[stream] = loop.call_later(IDLE_SECONDS, self._close_idle, stream)
        return result

    def _take_idle(self, kind: _StreamKind) -> _Stream | None:
        for stream in reversed(self._idle):
            if stream.kind == kind:
                self._idle.pop(stream).cancel()
                return stream
        return None

    def _opened(self, kind: _StreamKind) -> _Stream:
        if len(self._open) >= self._most and self._idle:
            self._close_idle(next(iter(self._idle)))
        stream = _Stream(self._client, kind, self._forget)
        self._open.add(stream)
        self._metrics.streams.set(len(self._open))
        return stream

    def _close_idle(self, stream: _Stream) -> None:
        self._idle.pop(stream).cancel()
        self._open.discard(stream)
        self._metrics.streams.set(len(self._open))
        stream.finish()

    def _forget(self, stream: _Stream) -> None:
        self._open.discard(stream)
        self._metrics.streams.set(len(self._open))
        handle = self._idle.pop(stream, None)
        if handle is not None:
            handle.cancel()


class _StreamKind(NamedTuple):
    """What a stream is opened with: pictures that want the same may share it."""

    threshold: float
    model: str


class _Stream:
    """One stream of the orchestrator with at most one picture in flight."""

    def __init__(
        self, client: DetectorClient, kind: _StreamKind, ended: Callable[[_Stream], None]
    ) -> None:
        self.kind = kind
        self._client = client
        self._ended = ended
        self._images: asyncio.Queue[TracedFrame | None] = asyncio.Queue()
        self._answer: asyncio.Future[FrameResult] | None = None
        self._serving = asyncio.create_task(self._serve())

    async def ask(self, image: Image) -> FrameResult:
        """The result of a picture.

        Raises:
            TandemError: the stream has ended.
        """
        if self._serving.done():
            raise UnavailableError("the stream has ended")
        self._answer = asyncio.get_running_loop().create_future()
        self._images.put_nowait(TracedFrame(image, current_traceparent()))
        try:
            return await self._answer
        finally:
            self._answer = None

    def finish(self) -> None:
        """End it in an orderly way: nothing is in flight."""
        self._images.put_nowait(None)

    def cancel_soon(self) -> None:
        """End it now, whatever is in flight."""
        self._serving.cancel()

    async def cancel(self) -> None:
        """The same, and wait until it has ended."""
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)

    async def _serve(self) -> None:
        failure: TandemError = UnavailableError("the gateway is ending")
        results = self._client.detect(
            self._supplied(),
            score_threshold=self.kind.threshold,
            max_in_flight=1,
            model=self.kind.model,
        )
        try:
            async for result in results:
                self._settle(result)
        except TandemError as error:
            failure = error
        except Exception:
            log.exception("a stream of pictures failed")
            failure = InternalError(INTERNAL_FAILURE_MESSAGE)
        finally:
            self._ended(self)
            self._settle(failure)

    def _settle(self, outcome: FrameResult | TandemError) -> None:
        answer = self._answer
        if answer is None or answer.done():
            return
        if isinstance(outcome, TandemError):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    async def _supplied(self) -> AsyncIterator[TracedFrame]:
        while (image := await self._images.get()) is not None:
            yield image


def _stream_threshold(wanted: DetectionOptions) -> float:
    """The threshold of the stream that serves a caller.

    Raises:
        InvalidInputError: what is wanted is out of range.
    """
    threshold = wanted.score_threshold
    if not 0 <= threshold <= 1:
        raise InvalidInputError(f"the score threshold is {threshold:g}; it has to be 0 to 1")
    if wanted.max_detections < 0:
        raise InvalidInputError("max_detections has to be 0 or more")
    # Rounding must not lift it, nor lower it by a step because 0.3 / 0.05 is 5.999...
    return math.floor(threshold / _THRESHOLD_STEP + 1e-9) * _THRESHOLD_STEP


def _within(result: FrameResult, wanted: DetectionOptions) -> FrameResult:
    """The result with those detections only that a caller wants."""
    detections = tuple(each for each in result.detections if each.score >= wanted.score_threshold)
    if wanted.max_detections:
        detections = detections[: wanted.max_detections]
    return replace(result, detections=detections)
