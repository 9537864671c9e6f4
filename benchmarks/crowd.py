"""Do many slow cameras get their share beside a few that never rest, and what do they cost?

`python -m benchmarks.crowd` starts one node and an orchestrator, with paced engines and the tests'
toy bundle, and sends them 256 cameras beside 16 clients that send as fast as their frames are
taken, all from one host. It does so twice: at a rate that the engines can carry, where every frame
of a camera is to be served, and at one that is far too much for them, where the cameras are live.

It tells whether each frame was answered once and in order, how the slowest camera fared against the
mean, how old the detections are, and the memory and open files of each service. On a busy machine
the rates say little, but the shares of clients that meet the same machine can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.crowd_clients import Client, CrowdPlan
from benchmarks.hosts import ROOT, Host, run_to_end
from benchmarks.report import Row, conclude, percentile_ms
from common.domain.placement import WORKSTATION, Placement, Stage

_BUNDLE = ROOT / "tests" / "data" / "toy-bundle"
_SAMPLE_SECONDS = 0.5
_LEAST_SHARE = 0.9
_EVERYWHERE = Host(WORKSTATION, core=None)


@dataclass
class Usage:
    """What a service's process takes.

    Attributes:
        process: of the service.
        idle_bytes: resident memory before the first client.
        bytes: the most that was seen.
        idle_files: open files before the first client.
        files: the most that was seen.
        idle_seconds: processor time until then.
        seconds: at the latest look.
    """

    process: psutil.Process
    idle_bytes: int = field(init=False)
    idle_files: int = field(init=False)
    idle_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        """Take the first look."""
        self.bytes = self.idle_bytes = self.process.memory_info().rss
        self.files = self.idle_files = self.process.num_fds()
        self.seconds = self.idle_seconds = sum(self.process.cpu_times()[:2])

    def look(self) -> None:
        """Take another look."""
        self.bytes = max(self.bytes, self.process.memory_info().rss)
        self.files = max(self.files, self.process.num_fds())
        self.seconds = sum(self.process.cpu_times()[:2])


async def measure(
    plan: CrowdPlan, paced_milliseconds: float, limits: Sequence[str]
) -> tuple[list[Client], dict[str, Usage]]:
    """Run the clients; what they saw, and what the services took."""
    cluster_plan = ClusterPlan(
        _BUNDLE,
        edge=_EVERYWHERE,
        workstation=_EVERYWHERE,
        cameras=_EVERYWHERE,
        paced_milliseconds=dict.fromkeys(Stage, paced_milliseconds),
        used=[(WORKSTATION, stage) for stage in Stage],
        orchestrator=limits,
    )
    async with Cluster(cluster_plan) as cluster:
        usages = {"orchestrator": Usage(psutil.Process(cluster.orchestrator.pid))}
        for stage in cluster.stages:
            usages[stage.stage.value] = Usage(psutil.Process(stage.announcement.pid))
        looking = asyncio.create_task(_look(usages))
        try:
            output = await _EVERYWHERE.run(
                "benchmarks.crowd_clients", cluster.orchestrator.address, json.dumps(asdict(plan))
            )
        finally:
            looking.cancel()
    return [Client(**each) for each in json.loads(output)], usages


async def _look(usages: Mapping[str, Usage]) -> None:
    while True:
        await asyncio.sleep(_SAMPLE_SECONDS)
        for usage in usages.values():
            usage.look()


def rows(plan: CrowdPlan, clients: Sequence[Client], simulated: str) -> list[Row]:
    """What the clients say."""
    cameras = [each for each in clients if each.is_paced]
    latencies = [seconds for each in cameras for seconds in each.latencies]
    offered = sum(each.due for each in cameras)
    dropped = sum(each.dropped for each in cameras)
    return [
        _answers(clients, simulated),
        _shares(plan, clients, simulated),
        Row(
            "share of the cameras' frames that were served",
            len(latencies) / offered,
            "",
            None,
            f"{offered / plan.seconds:.0f} frames/s were due; {dropped} answered as dropped",
            simulated,
        ),
        Row(
            "detections of a camera's frame, p50",
            percentile_ms(latencies, 0.5),
            "ms",
            None,
            f"after it was due; p99 {percentile_ms(latencies, 0.99):.0f} ms",
            simulated,
        ),
    ]


def _answers(clients: Sequence[Client], simulated: str) -> Row:
    sent = sum(each.sent for each in clients)
    wrong = {
        what: sum(getattr(each, what) for each in clients)
        for what in ("lost", "repeated", "reordered", "failed")
    }
    told = sorted({each.fault for each in clients if each.fault})[:2]
    ended = [each.ended for each in clients if each.ended]
    if ended:
        told.append(f"{len(ended)} streams ended early: {ended[0]}")
    counted = ", ".join(f"{count} {what}" for what, count in wrong.items())
    return Row(
        "frames answered once, in order, without an error",
        1.0 - sum(wrong.values()) / sent,
        "",
        1.0,
        "; ".join([f"{sent} frames: {counted}", *told]),
        simulated,
    )


def _shares(plan: CrowdPlan, clients: Sequence[Client], simulated: str) -> Row:
    rates = [len(each.latencies) / plan.seconds for each in clients if each.is_paced]
    greedy = [len(each.latencies) / plan.seconds for each in clients if not each.is_paced]
    mean = statistics.fmean(rates)
    return Row(
        "rate of the slowest camera against their mean",
        min(rates) / mean,
        "",
        _LEAST_SHARE,
        f"{len(rates)} cameras of {plan.frames_per_second:g} frames/s: slowest {min(rates):.2f}, "
        f"mean {mean:.2f}, {sum(rates):.0f} in all; {len(greedy)} greedy clients "
        f"{sum(greedy):.1f} in all",
        simulated,
    )


def usage_rows(usages: Mapping[str, Usage], clients: int, answers: int) -> list[Row]:
    """What the services took."""
    return [
        Row(
            f"memory of the {name} for each client",
            (usage.bytes - usage.idle_bytes) / clients / 1024,
            "KiB",
            None,
            f"{usage.idle_bytes / 2**20:.0f} MiB idle, {usage.bytes / 2**20:.0f} at most; open "
            f"files {usage.idle_files}, {usage.files} at most; processor time of an answer "
            f"{1e3 * (usage.seconds - usage.idle_seconds) / answers:.2f} ms",
        )
        for name, usage in usages.items()
    ]


def main() -> None:
    """Measure and show; exits 1 when a figure is below what is required."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=256, help="cameras")
    parser.add_argument("--fps", type=float, default=0.5, help="of each camera; 0: no such run")
    parser.add_argument(
        "--live-fps", type=float, default=2.0, help="of each live camera; 0: no such run"
    )
    parser.add_argument("--greedy", type=int, default=16, help="clients that send without a pause")
    parser.add_argument("--seconds", type=float, default=40.0, help="measured")
    parser.add_argument("--warm-up", type=float, default=10.0, help="before that, seconds")
    parser.add_argument("--pace", type=float, default=5.0, help="of both engines, ms")
    parser.add_argument("--limit", action="append", default=[], help="more of the orchestrator's")
    parser.add_argument("--csv", type=Path, help="file to write the table to")
    options = parser.parse_args()
    found: list[Row] = []
    for frames_per_second, is_live in ((options.fps, False), (options.live_fps, True)):
        if not frames_per_second:
            continue
        plan = CrowdPlan(
            Placement.WORKSTATION.value,
            paced=options.clients,
            frames_per_second=frames_per_second,
            is_live=is_live,
            greedy=options.greedy,
            warm_up_seconds=options.warm_up,
            seconds=options.seconds,
        )
        clients, usages = run_to_end(measure(plan, options.pace, options.limit))
        kind = f"{frames_per_second:g} frames/s{', live' if is_live else ''}"
        simulated = f"both stages, {options.pace:g} ms each"
        answers = sum(each.answered for each in clients)
        for row in [*rows(plan, clients, simulated), *usage_rows(usages, len(clients), answers)]:
            found.append(replace(row, what=f"{kind}: {row.what}"))
    title = f"Crowds of {options.clients} cameras and {options.greedy} greedy clients"
    conclude(title, found, options.csv)


if __name__ == "__main__":
    main()
