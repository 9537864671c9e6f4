"""The caller's frames on their way into a stream: numbered, read one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass

from common.domain.errors import InvalidInputError, TandemError
from common.domain.frames import Image
from common.domain.video import AccessUnit, VideoFormat
from common.telemetry.tracing import NOT_TRACED, NOTHING_TRACED, Span, StreamTraces
from common.wire.frames import frame_to_wire
from protos.tandem.v1 import detector_pb2
from tandem.pictures import Frame, as_image, refuse_single_frame
from tandem.threads import iterate_in_thread

SentFrame = Frame | AccessUnit


@dataclass(frozen=True)
class TracedFrame:
    """A frame that is part of a trace of its own, whatever the others of its stream are part of.

    Attributes:
        frame: what to detect on.
        traceparent: the span that it is part of, as W3C Trace Context writes it; empty: none.
    """

    frame: SentFrame
    traceparent: str


Frames = AsyncIterable[SentFrame | TracedFrame] | Iterable[SentFrame | TracedFrame]


@dataclass
class Supplied:
    """A frame that waits for its answer.

    Attributes:
        frame_id: its number, from 0.
        handed_over_at: when it was read, by `time.perf_counter`.
        request: as it is sent; None once it will not be sent again.
        key_frame: whether it can be decoded without the frames before it, as every picture can.
        span: of the frame, from then to its answer, if it is traced.
    """

    frame_id: int
    handed_over_at: float
    request: detector_pb2.DetectRequest | None
    key_frame: bool = True
    span: Span = NOT_TRACED


class FrameSupply:
    """Reads the caller's frames, each when there is room for it.

    Whoever waits for the next frame may be cancelled, since its connection was lost; the frame is
    then the next one's that waits.

    Attributes:
        largest_bytes: size of the largest message so far; 0 before the first frame.
    """

    def __init__(
        self,
        frames: Frames,
        max_in_flight: int,
        traces: StreamTraces = NOTHING_TRACED,
        *,
        video: VideoFormat | None = None,
    ) -> None:
        """Read from `frames`; at most `max_in_flight` of them are under way.

        Args:
            frames: the source.
            max_in_flight: how many may be.
            traces: what is traced of them.
            video: what all of them are access units of; None: none is.
        """
        if max_in_flight < 1:
            raise InvalidInputError("max_in_flight has to be at least 1")
        self._source = frames
        self._traces = traces
        self._video = video
        self._slots = asyncio.Semaphore(max_in_flight)
        self._frames: AsyncIterator[SentFrame | TracedFrame] | None = None
        self._reading: asyncio.Task[Supplied | None] | None = None
        self._waiting: asyncio.Future[None] | None = None
        # A consumer that leaves by an error, and its client, may both close at the same time.
        self._closing: asyncio.Task[None] | None = None
        self._next_id = 0
        self.largest_bytes = 0

    @property
    def ended(self) -> bool:
        """Whether there is no frame any more: the last was read, or reading failed."""
        task = self._reading
        if task is None or not task.done() or task.cancelled():
            return False
        return task.exception() is not None or task.result() is None

    async def next(self) -> Supplied | None:
        """The next frame; None after the last.

        Raises:
            InvalidInputError: it is of no type that can be sent, or the source failed.
            TandemError: that the source raised.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        if not self._reading.done():
            # In place of `asyncio.shield`, which takes one more turn of the event loop.
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        frame = self._reading.result()
        if frame is not None:
            self._reading = None
        return frame

    def answered(self) -> None:
        """A frame's result was taken: there is room for another."""
        self._slots.release()

    async def close(self) -> None:
        """Stop reading, and close the frames if they can be; once, whoever asks for it."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        close = getattr(self._frames, "aclose", None)
        if close is not None:
            await close()

    async def _read(self) -> Supplied | None:
        try:
            return await self._read_next()
        finally:
            # It finds this task done: it comes after this step, which is the last one.
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)

    async def _read_next(self) -> Supplied | None:
        await self._slots.acquire()
        try:
            if self._frames is None:
                self._frames = aiter(as_async(self._source))
            frame = await anext(self._frames)
        except StopAsyncIteration:
            return None
        except TandemError:
            raise
        except Exception as error:
            raise InvalidInputError(f"the source of the frames failed: {error!r}") from error
        traced = frame if isinstance(frame, TracedFrame) else TracedFrame(frame, "")
        content = _as_content(traced.frame, self._video)
        message = frame_to_wire(self._next_id, content)
        self._next_id += 1
        span = self._traces.frame("detect", traced.traceparent, frame_id=message.frame_id)
        message.traceparent = span.traceparent
        request = detector_pb2.DetectRequest(frame=message)
        self.largest_bytes = max(self.largest_bytes, request.ByteSize())
        is_key_frame = not isinstance(content, AccessUnit) or content.key_frame
        return Supplied(message.frame_id, time.perf_counter(), request, is_key_frame, span)


def _as_content(frame: SentFrame, video: VideoFormat | None) -> Image | AccessUnit:
    if isinstance(frame, AccessUnit):
        if video is None:
            raise InvalidInputError("a frame is an access unit: name its codec by `video`")
        return frame
    if video is not None:
        raise InvalidInputError(
            f"a frame is a {type(frame).__name__}; in a stream of video it has to be an AccessUnit"
        )
    return as_image(frame)


def as_async(frames: Frames) -> AsyncIterable[SentFrame | TracedFrame]:
    """The same frames, asynchronously."""
    if isinstance(frames, AsyncIterable):
        return frames
    refuse_single_frame(frames)
    return iterate_in_thread(frames)
