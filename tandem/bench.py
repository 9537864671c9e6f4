"""Throughput, latency and bytes of a placement, beside what is the best possible."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from common.domain.codec import Codec
from common.domain.detections import DEFAULT_SCORE_THRESHOLD, FrameTiming, StageTiming
from common.domain.errors import InvalidInputError, ServiceError
from common.domain.frames import EncodedImage
from common.domain.placement import Placement, Stage
from common.domain.video import AccessUnit, VideoFormat
from tandem.access import Credentials
from tandem.client import DetectorClient
from tandem.feed import Content
from tandem.results import FrameResult

# More than any window that a server finds for itself.
_MOST_IN_FLIGHT = 32
_STEPS = ("decode", "preprocess", "queue", "execute", "encode", "postprocess", "transfer")


@dataclass(frozen=True)
class BenchPlan:
    """What to run.

    Attributes:
        placement: the placement of every stream.
        codec: how features travel; None is the model's own.
        frames: number of frames to measure, over all clients together.
        warm_up_frames: number of frames to be answered before that, over all clients together.
        clients: number of concurrent streams, each over a connection of its own.
        window: frames of one stream in flight at the server; None: the server finds its own.
        score_threshold: see `DetectorClient.detect`.
        max_detections: see `DetectorClient.detect`.
        bits_per_second: what each stream's features may take of the link; 0: no limit.
        model: of a server, by its name; empty: its default model.
    """

    placement: Placement
    codec: Codec | None = None
    frames: int = 100
    warm_up_frames: int = 10
    clients: int = 1
    window: int | None = None
    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    max_detections: int = 0
    bits_per_second: int = 0
    model: str = ""


@dataclass(frozen=True)
class Sample:
    """One answered frame, and when (seconds, by any clock) its answer came."""

    answered_at: float
    result: FrameResult


@dataclass(frozen=True)
class Latency:
    """Percentiles, milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class BenchReport:
    """What one placement reached.

    Attributes:
        placement: the placement that was measured.
        codec: name of the feature codec, or of each that the server chose, the most used first;
            None where it does not tell.
        clients: number of concurrent streams.
        frames: number of frames measured.
        fps: frames answered a second, over all clients.
        latency_ms: in the orchestrator, from reading a frame to its answer.
        bytes_per_frame: mean payload that crosses between edge and workstation; see `link_bytes`.
        stage_ms: mean of each step of each stage.
        ideal_fps: one over the longest mean execution of a stage: all else can overlap with it.
        efficiency: `fps` as a share of `ideal_fps`.
        simulated: milliseconds of each stage whose speed was simulated; empty when none was.
    """

    placement: Placement
    codec: str | None
    clients: int
    frames: int
    fps: float
    latency_ms: Latency
    bytes_per_frame: float
    stage_ms: Mapping[str, Mapping[str, float]]
    ideal_fps: float
    efficiency: float
    simulated: Mapping[str, float] = field(default_factory=dict)


async def measure(
    address: str,
    frames: Sequence[EncodedImage | AccessUnit],
    plan: BenchPlan,
    on_frame: Callable[[], None] = lambda: None,
    *,
    credentials: Credentials | None = None,
    video: VideoFormat | None = None,
) -> list[Sample]:
    """Stream until all frames of the plan are answered; warm-up frames are left out.

    Args:
        address: of the orchestrator.
        frames: sent in turn, over and over.
        plan: what to run.
        on_frame: called after each answer.
        credentials: of a system with TLS.
        video: what the frames are access units of, the first of them a key frame; each client then
            sends them all. None: they are pictures, and the clients draw from one supply.

    Raises:
        ServiceError: a frame was not served; a benchmark of failures says nothing.
        TandemError: the server was lost.
    """
    if not frames:
        raise InvalidInputError("there are no frames to measure with")
    total = plan.warm_up_frames + plan.frames
    shared, turns = itertools.cycle(frames), iter(range(total))
    samples: list[Sample] = []

    def note(result: FrameResult) -> None:
        if result.error is not None:
            raise ServiceError(f"{plan.placement.value}: a frame failed: {result.error}")
        samples.append(Sample(time.perf_counter(), result))
        on_frame()

    async with AsyncExitStack() as stack:
        clients = [
            # A pause for a lost server would count as its work.
            await stack.enter_async_context(
                DetectorClient(address, reconnect_seconds=0, credentials=credentials)
            )
            for _ in range(plan.clients)
        ]
        # All clients share the number of frames, so that none ends long before the others.
        supplies = [
            zip(turns, itertools.cycle(frames) if video else shared, strict=False) for _ in clients
        ]
        streams = [
            asyncio.create_task(_stream(one, supply, plan, note, video))
            for one, supply in zip(clients, supplies, strict=True)
        ]
        try:
            await asyncio.gather(*streams)
        finally:
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
    return samples[plan.warm_up_frames :]


async def _stream(
    client: DetectorClient,
    supply: Iterator[tuple[int, Content]],
    plan: BenchPlan,
    note: Callable[[FrameResult], None],
    video: VideoFormat | None,
) -> None:
    # One frame more than the server takes at a time keeps it busy.
    async for result in client.detect(
        _contents(supply),
        placement=plan.placement,
        codec=plan.codec,
        max_link_bits_per_second=plan.bits_per_second,
        score_threshold=plan.score_threshold,
        max_detections=plan.max_detections,
        max_in_flight=(plan.window or _MOST_IN_FLIGHT) + 1,
        video=video,
        model=plan.model,
    ):
        note(result)


async def _contents(supply: Iterator[tuple[int, Content]]) -> AsyncIterator[Content]:
    """On the event loop, where all clients draw in turn."""
    for _, content in supply:
        yield content


def report(
    plan: BenchPlan, samples: Sequence[Sample], codec: str | None, simulated: Mapping[Stage, float]
) -> BenchReport:
    """Evaluate the samples of one run, which are in the order of their answers.

    Raises:
        InvalidInputError: there are fewer than two.
    """
    if len(samples) < 2:
        raise InvalidInputError("a rate takes at least two frames")
    duration = samples[-1].answered_at - samples[0].answered_at
    fps = (len(samples) - 1) / duration
    timings = [sample.result.timing for sample in samples]
    stage_ms = {stage.value: mean_steps(timings, stage) for stage in Stage}
    ideal_fps = 1000 / max(steps["execute"] for steps in stage_ms.values())
    latencies = sorted(1000 * timing.total_seconds for timing in timings)
    return BenchReport(
        placement=plan.placement,
        codec=codec or _codecs_used(timings),
        clients=plan.clients,
        frames=len(samples),
        fps=fps,
        latency_ms=Latency(*(percentile(latencies, share) for share in (0.50, 0.95, 0.99))),
        bytes_per_frame=statistics.fmean(link_bytes(plan.placement, one) for one in timings),
        stage_ms=stage_ms,
        ideal_fps=ideal_fps,
        efficiency=fps / ideal_fps,
        simulated={stage.value: milliseconds for stage, milliseconds in simulated.items()},
    )


def _codecs_used(timings: Sequence[FrameTiming]) -> str | None:
    told = Counter(one.backbone.codec for one in timings if one.backbone and one.backbone.codec)
    return ", ".join(codec.value for codec, _ in told.most_common()) or None


def link_bytes(placement: Placement, timing: FrameTiming) -> int:
    """Payload bytes of one frame that cross between edge and workstation.

    Cameras and orchestrator are taken to be on the edge: the frame crosses on its way to a
    backbone on the workstation, the features wherever the two halves run apart. The boxes on
    their way back, a kilobyte or two, are left out.
    """
    image = timing.backbone.request_bytes if timing.backbone else 0
    features = timing.transformer.request_bytes if timing.transformer else 0
    return {
        Placement.FULL: 0,
        Placement.BACKBONE: features,
        Placement.TRANSFORMER: image + features,
        Placement.WORKSTATION: image,
    }[placement]


def mean_steps(timings: Sequence[FrameTiming], stage: Stage) -> dict[str, float]:
    """Mean milliseconds of each step of a stage."""
    reached = [one for one in (_of_stage(timing, stage) for timing in timings) if one is not None]
    if not reached:
        raise InvalidInputError(f"no frame reached the {stage.value}")
    return {
        step: 1000 * statistics.fmean(getattr(one, f"{step}_seconds") for one in reached)
        for step in _STEPS
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` of all (nearest rank); `ordered` ascends."""
    rank = -(-share * len(ordered) // 1)
    return ordered[max(0, int(rank) - 1)]


def report_to_json(one: BenchReport) -> dict[str, Any]:
    """The machine-readable form of one row of `tandem bench --json`."""
    return {**asdict(one), "placement": one.placement.value}


def _of_stage(timing: FrameTiming, stage: Stage) -> StageTiming | None:
    return timing.backbone if stage is Stage.BACKBONE else timing.transformer
