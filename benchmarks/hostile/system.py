"""The services under attack: where they are, what they log, take and measure."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.hostile.bystander import ORCHESTRATOR
from benchmarks.hostile.calls import Targets
from common.domain.placement import EDGE, Stage
from tandem.cluster import ClusterOptions, LocalCluster
from tandem.processes import Announcement, ServiceProcess

BARE = "bare gRPC"
_SAMPLE_SECONDS = 0.05
# For what was logged to come through the pipes.
_LOG_SECONDS = 0.3


@dataclass
class Logs:
    """What the services log.

    Attributes:
        bytes_of: by service.
        longest: line.
    """

    bytes_of: Counter[str] = field(default_factory=Counter)
    longest: str = ""

    def take(self, name: str, line: str) -> None:
        """A line, its end included."""
        size = len(line.encode()) + 1
        self.bytes_of[name] += size
        self.longest = max(self.longest, line, key=len)

    async def so_far(self) -> Counter[str]:
        """Bytes of each service, once all of it has been read."""
        await asyncio.sleep(_LOG_SECONDS)
        return Counter(self.bytes_of)


@dataclass(frozen=True)
class System:
    """Services that run.

    Attributes:
        told: of each, by its name: where it listens.
        bare: where a bare server listens, to compare with.
        targets: those that are attacked.
        logs: of all.
    """

    told: dict[str, Announcement]
    bare: str
    targets: Targets
    logs: Logs

    @property
    def addresses(self) -> dict[str, str]:
        """Of gRPC, by the service's name; the bare server's as well."""
        return {BARE: self.bare, **{name: each.address for name, each in self.told.items()}}

    def ended(self) -> list[str]:
        """The services whose processes have ended."""
        return [name for name, each in self.told.items() if not _runs(each.pid)]

    def memory(self) -> dict[str, int]:
        """Resident bytes of each service, the processes that decode aside."""
        return {
            name: psutil.Process(each.pid).memory_info().rss for name, each in self.told.items()
        }

    async def series(self) -> dict[str, int]:
        """How many metric series each service has."""
        return {
            name: await asyncio.to_thread(_series, each.metrics) for name, each in self.told.items()
        }

    @asynccontextmanager
    async def sampled_memory(self) -> AsyncIterator[dict[str, int]]:
        """The most that each service took meanwhile, beyond what it took before; bytes."""
        base = self.memory()
        most = dict.fromkeys(base, 0)

        async def sample() -> None:
            while True:
                for name, taken in self.memory().items():
                    most[name] = max(most[name], taken - base[name])
                await asyncio.sleep(_SAMPLE_SECONDS)

        sampling = asyncio.create_task(sample())
        try:
            yield most
        finally:
            sampling.cancel()


@asynccontextmanager
async def running(bundle: Path) -> AsyncIterator[System]:
    """Two nodes and an orchestrator."""
    logs = Logs()
    options = ClusterOptions(bundle, log_level="info", on_log=logs.take)
    async with LocalCluster(options) as cluster:
        told = {ORCHESTRATOR: cluster.orchestrator}
        for each in cluster.stages:
            told[f"{each.node} {each.stage.value}"] = each.announcement
        targets = Targets(
            cluster.orchestrator.address,
            told[f"{EDGE} {Stage.BACKBONE.value}"].address,
            told[f"{EDGE} {Stage.TRANSFORMER.value}"].address,
            [each.metrics.split("/")[2] for each in told.values()],
        )
        bare = await ServiceProcess.start(BARE, "benchmarks.instant", ["sink"])
        try:
            yield System(told, (await bare.announcement()).address, targets, logs)
        finally:
            await bare.stop()


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _series(url: str) -> int:
    with urllib.request.urlopen(url) as page:
        return sum(not line.startswith(b"#") for line in page.read().splitlines())
