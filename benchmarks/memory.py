"""Resident memory of every service over a long stream.

`python -m benchmarks.memory [--frames 2000] [--bundle DIR]` streams the shipped clip, over and
over, through each placement in turn, samples each service's resident memory, and prints how it
went. Growth is counted from the first quarter of the run on: before that, allocators, thread stacks
and caches are filling up. It fails when a service grew by more than the bound.

With `--video` it is one stream of H.264, whose placement is switched amid its groups, beside a live
one that drops frames and stays where it is. Of the processes that decode for a service, the largest
is told as well.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.video import VideoStream, camera_video
from common.domain.frames import Image
from common.domain.placement import Placement
from tandem.client import DetectorClient
from tandem.cluster import ClusterOptions, LocalCluster
from tandem.shipped import shipped_bundle, shipped_clip
from tandem.sources import open_source

SAMPLES = 20
LIVE_FPS = 30.0
MEBIBYTE = 1 << 20
# Page-sized noise of the allocator, over 1,500 frames; a leak of one frame's JPEG would be 50 MiB.
BOUND_MEBIBYTES = 5.0


@dataclass
class ServiceMemory:
    """One service's resident memory over the run, MiB a sample."""

    name: str
    process: psutil.Process
    samples: list[float] = field(default_factory=list)

    def sample(self) -> None:
        """Take one sample."""
        self.samples.append(self.process.memory_info().rss / MEBIBYTE)

    @property
    def growth(self) -> float:
        """MiB from the end of the first quarter to the end."""
        return self.samples[-1] - self.samples[len(self.samples) // 4]


@dataclass
class DecoderMemory(ServiceMemory):
    """The memory of a service's decoders: of the largest, what it shares with no other process.

    Create it before there is a stream: what the service has started by then is no decoder of video.

    Attributes:
        decoders: how many there were at the latest sample.
    """

    decoders: int = 0

    def __post_init__(self) -> None:
        """Take note of what there is before."""
        self._others = {each.pid for each in self.process.children(recursive=True)}

    def sample(self) -> None:
        """Take one sample; 0 where there is none."""
        children = self.process.children(recursive=True)
        decoders = [each for each in children if each.pid not in self._others]
        self.decoders = len(decoders)
        self.samples.append(max(map(_unique_bytes, decoders), default=0) / MEBIBYTE)


def main() -> None:
    """Run the benchmark; exits 1 when a service grew beyond the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=2000, help="in all, over the placements")
    parser.add_argument("--bundle", type=Path, help="folder of the model; default: the shipped one")
    parser.add_argument("--video", action="store_true", help="send H.264, not pictures")
    options = parser.parse_args()
    measured = measure_video if options.video else measure
    services = asyncio.run(measured(options.bundle or shipped_bundle(), options.frames))
    show(services, options.frames)
    sys.exit(any(service.growth > BOUND_MEBIBYTES for service in services))


async def measure(bundle: Path, frame_count: int) -> list[ServiceMemory]:
    """Stream the frames and sample the memory of each service."""
    images = clip_images(frame_count)
    every = max(1, frame_count // SAMPLES)
    async with LocalCluster(ClusterOptions(bundle)) as cluster:
        services = services_of(cluster)
        async with DetectorClient(cluster.orchestrator.address, reconnect_seconds=0) as client:
            for placement in itertools.cycle(Placement):
                part = list(itertools.islice(images, every))
                if not part:
                    return services
                async for _ in client.detect(part, placement=placement):
                    pass
                for service in services:
                    service.sample()
    return services


async def measure_video(bundle: Path, frame_count: int) -> list[ServiceMemory]:
    """Stream the frames as video and sample the memory of each service and of its decoders."""
    every = max(1, frame_count // SAMPLES)
    placements = itertools.cycle(Placement)
    async with LocalCluster(ClusterOptions(bundle)) as cluster:
        address, services = cluster.orchestrator.address, services_of(cluster)
        backbones = [each for each in services if each.name.endswith(" backbone")]
        decoders = [DecoderMemory(f"{each.name}'s decoder", each.process) for each in backbones]
        units = camera_video()
        street = VideoStream(address, units, placement=Placement.FULL, fps=LIVE_FPS)
        film = VideoStream(address, units, frames=frame_count)
        live = asyncio.ensure_future(street.run())
        try:
            async with DetectorClient(address, reconnect_seconds=0) as operator:
                async for answered in film.answers():
                    if answered % every == 0:
                        await operator.set_placement(next(placements))
                        for each in (*services, *decoders):
                            each.sample()
        finally:
            live.cancel()
    return [*services, *decoders]


def services_of(cluster: LocalCluster) -> list[ServiceMemory]:
    """All services of a cluster, without a sample."""
    services = [ServiceMemory("orchestrator", psutil.Process(cluster.orchestrator.pid))]
    for stage in cluster.stages:
        process = psutil.Process(stage.announcement.pid)
        services.append(ServiceMemory(f"{stage.node} {stage.stage.value}", process))
    return services


def _unique_bytes(process: psutil.Process) -> int:
    """What a process holds that no other one shares; 0 if it has ended meanwhile."""
    try:
        return int(process.memory_full_info().uss)
    except psutil.NoSuchProcess:
        return 0


def clip_images(count: int) -> Iterator[Image]:
    """The clip's frames, over and over."""
    with closing(open_source(str(shipped_clip()))) as source:
        frames = [frame.image for frame in source]
    return itertools.islice(itertools.cycle(frames), count)


def show(services: list[ServiceMemory], frame_count: int) -> None:
    """Print the table."""
    table = Table(title=f"Resident memory over {frame_count} frames, MiB")
    for heading in ("service", "at 5 %", "at 25 %", "at 50 %", "at 100 %", "growth from 25 %"):
        table.add_column(heading, justify="left" if heading == "service" else "right")
    for service in services:
        quarter = len(service.samples) // 4
        shown = [service.samples[index] for index in (0, quarter, 2 * quarter, -1)]
        table.add_row(service.name, *(f"{each:.1f}" for each in shown), f"{service.growth:+.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
