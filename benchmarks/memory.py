"""Resident memory of every service over a long stream.

`python -m benchmarks.memory [--frames 2000] [--bundle DIR]` streams the shipped clip,
over and over, through each placement in turn, samples each service's resident memory, and prints
how it went. Growth is counted from the first quarter of the run on: before that, allocators,
thread stacks and caches are filling up. It fails when a service grew by more than the bound.
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

from common.domain.frames import Image
from common.domain.placement import Placement
from tandem.client import DetectorClient
from tandem.cluster import ClusterOptions, LocalCluster
from tandem.shipped import shipped_bundle, shipped_clip
from tandem.sources import open_source

SAMPLES = 20
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


def main() -> None:
    """Run the benchmark; exits 1 when a service grew beyond the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=2000, help="in all, over the placements")
    parser.add_argument("--bundle", type=Path, help="folder of the model; default: the shipped one")
    options = parser.parse_args()
    services = asyncio.run(measure(options.bundle or shipped_bundle(), options.frames))
    show(services, options.frames)
    sys.exit(any(service.growth > BOUND_MEBIBYTES for service in services))


async def measure(bundle: Path, frame_count: int) -> list[ServiceMemory]:
    """Stream the frames and sample the memory of each service."""
    images = clip_images(frame_count)
    every = max(1, frame_count // SAMPLES)
    async with LocalCluster(ClusterOptions(bundle)) as cluster:
        services = [ServiceMemory("orchestrator", psutil.Process(cluster.orchestrator.pid))]
        for stage in cluster.stages:
            process = psutil.Process(stage.announcement.pid)
            services.append(ServiceMemory(f"{stage.node} {stage.stage.value}", process))
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
