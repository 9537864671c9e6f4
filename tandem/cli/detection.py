"""A source through a detector into a sink, frame by frame."""

from __future__ import annotations

import itertools
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, FrameTiming, OverloadPolicy
from common.domain.errors import InvalidInputError, ResourceExhaustedError, TandemError
from common.domain.frames import EncodedImage
from tandem.cli.console import activity
from tandem.cli.options import RemoteServer
from tandem.cli.options import detector as connected_detector
from tandem.cluster import ClusterOptions
from tandem.local_detector import LocalDetector
from tandem.result_tracks import TrackNumbers
from tandem.results import FrameResult
from tandem.sinks import Sink
from tandem.sources import Source, SourceFrame, SourceKind, played
from tandem.threads import call_in_thread, complete_in_thread, iterate_in_thread

Report = Callable[[SourceFrame, FrameResult], None]
Detect = Callable[[Iterator[EncodedImage]], AsyncIterator[FrameResult]]
"""Answers frames in order; each call begins a stream."""

# gRPC's own words when a message is too large for the server: its size, and the limit; bytes.
_TOO_LARGE = re.compile(r"larger than max \((\d+) vs\. (\d+)\)")
# What a message holds beside the picture.
_MESSAGE_BYTES = 1024


@dataclass(frozen=True)
class DetectionRequest:
    """What to detect, and how.

    Attributes:
        placement: which node runs which stage, by name; None: whatever serves best.
        codec: how features travel between the stages; None is the model's own.
        bits_per_second: what features may take of the link between the stages; 0: no limit.
        threshold: boxes with a lower score are left out.
        max_detections: boxes a frame, the best; 0: all.
        live: the newest frame wins; a file is played at its own speed.
        limit: number of frames of the source to use; None: all.
        track: number the objects.
    """

    placement: str | None = None
    codec: Codec | None = None
    bits_per_second: int = 0
    threshold: float = DEFAULT_SCORE_THRESHOLD
    max_detections: int = 0
    live: bool = False
    limit: int | None = None
    track: bool = False

    @property
    def needs_services(self) -> bool:
        """Whether this process alone cannot do it: there are nodes, codecs and dropped frames."""
        chooses_codec = self.codec is not None or self.bits_per_second > 0
        return self.placement is not None or chooses_codec or self.live


@dataclass
class RunSummary:
    """What has come back so far."""

    frames: int = 0
    detections: int = 0
    dropped: int = 0
    failed: int = 0
    first_failure: str = ""
    seconds: float = 0.0

    def add(self, frame: SourceFrame, result: FrameResult) -> None:
        """Count one frame."""
        self.frames += 1
        self.detections += len(result.detections)
        self.dropped += result.dropped
        if result.error is not None:
            self.failed += 1
            self.first_failure = self.first_failure or f"{frame.name}: {result.error}"


async def detect_source(
    detect: Detect,
    source: Source,
    request: DetectionRequest,
    sink: Sink | None,
    report: Report,
) -> RunSummary:
    """Stream a source, write each frame to the sink and report it; in order.

    A frame that cannot be read, or is too large for the server, is reported with its error, and
    the others go on.

    Raises:
        TandemError: the source or the sink failed, or the server was lost.
    """
    summary = RunSummary()
    feed = _Feed(_frames(source, request))
    tracks = TrackNumbers()

    async def take(frame: SourceFrame, result: FrameResult) -> None:
        found = tracks.of(result.detections)
        numbered = replace(result, frame_id=summary.frames, detections=found)
        if sink is not None:
            # Drawing and encoding must not hold up the stream.
            await complete_in_thread(lambda: sink.write(frame, numbered))
        summary.add(frame, numbered)
        summary.seconds = time.perf_counter() - started
        report(frame, numbered)

    started = time.perf_counter()
    while not feed.ended:
        try:
            async for result in detect(feed.images()):
                for failed in feed.failed_first():
                    await take(failed, _failure(failed))
                await take(feed.sent.popleft(), result)
        except ResourceExhaustedError as error:
            if not feed.restart_after(error):
                raise
            tracks.stream_lost()
        else:
            for failed in feed.failed_first():
                await take(failed, _failure(failed))
    return summary


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
        self.sent: deque[SourceFrame] = deque()
        self.ended = False

    def images(self) -> Iterator[EncodedImage]:
        """What is to be sent, in order."""
        while (frame := self._next()) is not None:
            self.sent.append(frame)
            if not isinstance(frame.content, TandemError):
                yield frame.content
        self.ended = True

    def failed_first(self) -> Iterator[SourceFrame]:
        """Take out the frames at the front that have no answer to wait for."""
        while self.sent and isinstance(self.sent[0].content, TandemError):
            yield self.sent.popleft()

    def restart_after(self, error: ResourceExhaustedError) -> bool:
        """Learn from the server's refusal how large a message may be; what waits is sent again.

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
        self._again.extend(waiting)
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


@asynccontextmanager
async def local_detection(
    options: ClusterOptions, request: DetectionRequest
) -> AsyncIterator[Detect]:
    """Detection in this process, without services; the model is loaded for as long.

    Raises:
        TandemError: it cannot be loaded.
    """
    with activity("loading the model"):
        detector = await call_in_thread(
            lambda: LocalDetector(
                options.bundle,
                device=options.device,
                require_signature=options.require_signature,
            )
        )
    with detector:
        yield lambda images: iterate_in_thread(
            detector.detect(
                images,
                score_threshold=request.threshold,
                max_detections=request.max_detections,
                track=request.track,
            )
        )


@asynccontextmanager
async def served_detection(
    server: RemoteServer | ClusterOptions, request: DetectionRequest, reconnect_seconds: float
) -> AsyncIterator[Detect]:
    """Detection by the server at this address, or by local nodes that live as long.

    Raises:
        TandemError: local nodes cannot be started.
    """
    async with connected_detector(server, reconnect_seconds) as client:
        yield lambda images: client.detect(
            images,
            placement=request.placement,
            score_threshold=request.threshold,
            max_detections=request.max_detections,
            overload=OverloadPolicy.DROP_OLDEST if request.live else OverloadPolicy.BLOCK,
            codec=request.codec,
            max_link_bits_per_second=request.bits_per_second,
            track=request.track,
        )


def _failure(frame: SourceFrame) -> FrameResult:
    """The result of a frame that was not sent."""
    error = frame.content if isinstance(frame.content, TandemError) else None
    return FrameResult(0, (), error, False, None, FrameTiming(None, None, 0.0), 0.0)


def _frames(source: Source, request: DetectionRequest) -> Iterator[SourceFrame]:
    frames: Iterator[SourceFrame] = itertools.islice(source, request.limit)
    if request.live and source.info.kind is SourceKind.VIDEO:
        return played(frames)
    return frames
