"""A source through the system into a sink, frame by frame."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from client.detector import DetectorClient
from client.results import FrameResult
from client.sinks import Sink
from client.sources import Source, SourceFrame, played
from common.domain.codec import Codec
from common.domain.frames import EncodedImage
from common.domain.placement import NodePair
from common.domain.stream import OverloadPolicy

Report = Callable[[SourceFrame, FrameResult], None]


@dataclass(frozen=True)
class DetectionRequest:
    """What to ask of the server.

    Attributes:
        pair: None leaves it to the server.
        codec: None is the model's own.
        threshold: boxes with a lower score are left out.
        max_detections: boxes a frame, the best; 0: all.
        live: the newest frame wins; a file is played at its own speed.
        limit: frames of the source to use; None: all.
    """

    pair: NodePair | None = None
    codec: Codec | None = None
    threshold: float = 0.7
    max_detections: int = 0
    live: bool = False
    limit: int | None = None


@dataclass
class Tally:
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
    client: DetectorClient,
    source: Source,
    request: DetectionRequest,
    sink: Sink | None,
    report: Report,
) -> Tally:
    """Stream a source, write each frame to the sink and report it; in order.

    Raises:
        TandemError: the source or the sink failed, or the server was lost.
    """
    tally = Tally()
    sent: deque[SourceFrame] = deque()

    def images() -> Iterator[EncodedImage]:
        for frame in _frames(source, request):
            sent.append(frame)
            yield frame.image

    started = time.perf_counter()
    async for result in client.detect(
        images(),
        placement=request.pair,
        score_threshold=request.threshold,
        max_detections=request.max_detections,
        overload=OverloadPolicy.DROP_OLDEST if request.live else OverloadPolicy.BLOCK,
        codec=request.codec,
    ):
        frame = sent.popleft()
        if sink is not None:
            # Drawing and encoding must not hold up the stream.
            await asyncio.to_thread(sink.write, frame, result)
        tally.add(frame, result)
        tally.seconds = time.perf_counter() - started
        report(frame, result)
    return tally


def _frames(source: Source, request: DetectionRequest) -> Iterator[SourceFrame]:
    frames: Iterator[SourceFrame] = itertools.islice(source, request.limit)
    rate = source.info.frames_per_second
    if request.live and rate and source.info.frame_count is not None:
        return played(frames, rate)
    return frames
