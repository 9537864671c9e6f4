"""A source through a detector into a sink, frame by frame."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, OverloadPolicy
from common.domain.frames import Image
from tandem.cli.console import activity
from tandem.cli.options import RemoteServer
from tandem.cli.options import detector as connected_detector
from tandem.cluster import ClusterOptions
from tandem.feed import Detect, answered
from tandem.local_detector import LocalDetector
from tandem.results import FrameResult
from tandem.sinks import Sink
from tandem.sources import Source, SourceFrame
from tandem.threads import call_in_thread, complete_in_thread, iterate_in_thread
from tandem.video import frames_of

Report = Callable[[SourceFrame, FrameResult], None]


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
        transcode: a video's frames are sent as JPEG.
        track: number the objects.
        model: of a server, by its name; empty: its default model.
    """

    placement: str | None = None
    codec: Codec | None = None
    bits_per_second: int = 0
    threshold: float = DEFAULT_SCORE_THRESHOLD
    max_detections: int = 0
    live: bool = False
    limit: int | None = None
    transcode: bool = False
    track: bool = False
    model: str = ""

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
    frames = itertools.islice(frames_of(source, request.live), request.limit)
    started = time.perf_counter()
    async with aclosing(answered(detect, frames)) as answers:
        async for frame, result in answers:
            if sink is not None:
                # Drawing and encoding must not hold up the stream.
                await complete_in_thread(partial(sink.write, frame, result))
            summary.add(frame, result)
            summary.seconds = time.perf_counter() - started
            report(frame, result)
    return summary


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
                precision=options.precision,
                require_signature=options.require_signature,
            )
        )
    with detector:
        yield lambda contents, _video: iterate_in_thread(
            detector.detect(
                # Its source delivers no access units.
                cast(Iterator[Image], contents),
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
        yield lambda contents, video: client.detect(
            contents,
            video=video,
            placement=request.placement,
            score_threshold=request.threshold,
            max_detections=request.max_detections,
            overload=OverloadPolicy.DROP_OLDEST if request.live else OverloadPolicy.BLOCK,
            codec=request.codec,
            max_link_bits_per_second=request.bits_per_second,
            model=request.model,
            track=request.track,
        )
