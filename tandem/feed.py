"""A source's frames to their answers: one stream after another, each of frames of one kind."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace

from common.domain.detections import FrameTiming
from common.domain.errors import InvalidInputError, ResourceExhaustedError, TandemError
from common.domain.frames import Image
from common.domain.video import AccessUnit, VideoFormat
from tandem.result_tracks import TrackNumbers
from tandem.results import FrameResult
from tandem.sources import SourceFrame
from tandem.threads import call_in_thread

Content = Image | AccessUnit
Detect = Callable[[Iterator[Content], VideoFormat | None], AsyncIterator[FrameResult]]
"""Answers frames in order: access units of this video, or pictures; each call begins a stream."""
Answer = tuple[SourceFrame, FrameResult]

# gRPC's own words when a message is too large for the server: its size, and the limit; bytes.
_TOO_LARGE = re.compile(r"larger than max \((\d+) vs\. (\d+)\)")
# What a message holds beside the picture.
_MESSAGE_BYTES = 1024


async def answered(detect: Detect, frames: Iterator[SourceFrame]) -> AsyncGenerator[Answer, None]:
    """Each frame with its result, in order and numbered from 0.

    A frame that cannot be read, or is too large for the server, has its error as its result, and
    the others go on.

    Raises:
        TandemError: the source failed, or the server was lost.
    """
    feed, numbers, tracks = _Feed(frames), itertools.count(), TrackNumbers()
    while not feed.ended:
        tracks.stream_lost()
        try:
            async with aclosing(_over_one_stream(detect, feed)) as answers:
                async for frame, result in answers:
                    found = tracks.of(result.detections)
                    yield frame, replace(result, frame_id=next(numbers), detections=found)
        except ResourceExhaustedError as error:
            if not feed.restart_after(error):
                raise


def failure(frame: SourceFrame) -> FrameResult:
    """The result of a frame that was not sent."""
    error = frame.content if isinstance(frame.content, TandemError) else None
    return FrameResult(0, (), error, False, None, FrameTiming(None, None, 0.0), 0.0)


async def _over_one_stream(detect: Detect, feed: _Feed) -> AsyncGenerator[Answer, None]:
    video = await call_in_thread(feed.begin)
    if not feed.ended:
        results = detect(feed.contents(), video)
        try:
            async for result in results:
                for failed in feed.failed_first():
                    yield failed, failure(failed)
                yield feed.sent.popleft(), result
        finally:
            close = getattr(results, "aclose", None)
            if close is not None:
                await close()
    for failed in feed.failed_first():
        yield failed, failure(failed)


class _Feed:
    """Frames on their way to the server.

    Attributes:
        sent: those that wait for their answer, and between them those that could not be sent.
        ended: there are no more.
    """

    def __init__(self, frames: Iterator[SourceFrame]) -> None:
        self._frames = frames
        self._again: deque[SourceFrame] = deque()
        self._most_bytes: int | None = None
        self._video: VideoFormat | None = None
        self.sent: deque[SourceFrame] = deque()
        self.ended = False

    def begin(self) -> VideoFormat | None:
        """Another stream: what its first frame is an access unit of; blocks until there is one."""
        while (frame := self._next()) is not None:
            if not isinstance(frame.content, TandemError):
                self._again.appendleft(frame)
                self._video = frame.video
                return self._video
            self.sent.append(frame)
        self.ended = True
        return None

    def contents(self) -> Iterator[Content]:
        """What is to be sent over this stream, in order; it ends where the frames change."""
        while (frame := self._next()) is not None:
            content = frame.content
            if isinstance(content, TandemError):
                self.sent.append(frame)
                continue
            if frame.video != self._video:
                self._again.appendleft(frame)
                return
            self.sent.append(frame)
            yield content
        self.ended = True

    def failed_first(self) -> Iterator[SourceFrame]:
        """Take out the frames at the front that have no answer to wait for."""
        while self.sent and isinstance(self.sent[0].content, TandemError):
            yield self.sent.popleft()

    def restart_after(self, error: ResourceExhaustedError) -> bool:
        """Learn from the server's refusal how large a message may be; what waits is sent again.

        Of video, what follows can be decoded from the next key frame on.

        Returns:
            False if no frame was too large: it was something else.
        """
        told = _TOO_LARGE.search(str(error))
        if told is None:
            return False
        self._most_bytes = int(told[2]) - _MESSAGE_BYTES
        waiting = [self._checked(frame) for frame in self.sent]
        if not any(isinstance(frame.content, TandemError) for frame in waiting):
            return False
        self._again.extendleft(reversed(waiting))
        self.sent.clear()
        self.ended = False
        return True

    def _next(self) -> SourceFrame | None:
        if self._again:
            return self._again.popleft()
        frame = next(self._frames, None)
        return None if frame is None else self._checked(frame)

    def _checked(self, frame: SourceFrame) -> SourceFrame:
        if isinstance(frame.content, TandemError) or self._most_bytes is None:
            return frame
        size = len(frame.content.data)
        if size <= self._most_bytes:
            return frame
        error = InvalidInputError(
            f"it has {size / 2**20:.1f} MiB, more than the {self._most_bytes / 2**20:.1f} MiB that "
            "the server takes (--max-message-mebibytes of its services)"
        )
        return replace(frame, content=error)
