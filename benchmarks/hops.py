"""What a frame takes beyond its own steps, hop by hop, beside bare ping-pongs at the same pace.

`python -m benchmarks.hops` sends one frame at a time through a system whose engines are paced, and
as many messages of the same sizes to servers that do nothing: from the client's core to the
orchestrator's, on to the backbone's, and on to the transformer's. Every process has slept for about
an engine's time when its message comes, and most of a hop is waking it. The same way as a chain of
servers with nothing of Tandem's (`benchmarks.bare_chain`) shows how much of that no code of its own
can save.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.camera import Answer, CameraPlan, stream
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import LOCAL_EDGE, LOCAL_WORKSTATION, Host, run_to_end
from benchmarks.instant import PROCESS
from benchmarks.report import TIMES_BARE, Row, conclude, percentile_ms, show_table
from benchmarks.workload import DEFAULT_FOLDER, R18
from common.domain.placement import WORKSTATION, Placement, Stage
from common.wire.connections import open_channel
from tandem.processes import ServiceProcess

PACE_MS = 20.0
_FRAMES = 60
_WARM_UP = 10
_REPETITIONS = 3
PLACEMENTS = (Placement.FULL, Placement.BACKBONE)
_MOST_TIMES = 1.5


@dataclass(frozen=True)
class Hop:
    """One part of a frame's way, in the order of the way there.

    Attributes:
        name: what it is.
        seconds: of one frame, there and back.
    """

    name: str
    seconds: Callable[[Answer], float]


HOPS = (
    Hop("client to orchestrator", lambda each: each.round_trip - each.served),
    Hop(
        "inside the orchestrator",
        lambda each: each.served - each.backbone_held - each.backbone_transfer,
    ),
    Hop("orchestrator to backbone", lambda each: each.backbone_transfer),
    Hop(
        "inside the backbone",
        lambda each: (
            each.backbone_held
            - each.backbone_steps
            - each.transformer_held
            - each.transformer_transfer
        ),
    ),
    Hop("backbone to transformer", lambda each: each.transformer_transfer),
    Hop("inside the transformer", lambda each: each.transformer_held - each.transformer_steps),
)


@dataclass(frozen=True)
class Use:
    """What processes have used; the difference of two is what a part of a run took.

    Attributes:
        processor_seconds: of all threads.
        wake_ups: how often one of the threads had waited, for whatever it was.
    """

    processor_seconds: float = 0.0
    wake_ups: int = 0

    @classmethod
    def of(cls, pid: int) -> Use:
        """What a process and its children have used so far; Linux only."""
        own = Path(f"/proc/{pid}/task")
        uses = [cls._of_thread(thread) for thread in own.iterdir()]
        children = (own / str(pid) / "children").read_text().split()
        return sum((cls.of(int(child)) for child in children), sum(uses, cls()))

    @classmethod
    def _of_thread(cls, thread: Path) -> Use:
        nanoseconds = int((thread / "schedstat").read_text().split()[0])
        lines = (thread / "status").read_text().splitlines()
        waits = next(line for line in lines if line.startswith("voluntary_ctxt_switches"))
        return cls(nanoseconds * 1e-9, int(waits.split()[1]))

    def __add__(self, other: Use) -> Use:
        """What both have used."""
        return Use(self.processor_seconds + other.processor_seconds, self.wake_ups + other.wake_ups)

    def __sub__(self, before: Use) -> Use:
        """What was used since then."""
        return Use(
            self.processor_seconds - before.processor_seconds, self.wake_ups - before.wake_ups
        )


@dataclass(frozen=True)
class Measured:
    """What one placement's repetitions gave; times in milliseconds.

    Attributes:
        beyond: of each repetition, the median of a frame's time beyond its own steps.
        bare: of each repetition, the sum of the medians of the three ping-pongs.
        chain: of each repetition, the median of a bare chain's time beyond its links' sleeps.
        hops: by name, the median over all frames.
        uses: of each process.
        frames: that took this, warm-up included.
    """

    placement: Placement
    beyond: list[float]
    bare: list[float]
    chain: list[float]
    hops: dict[str, float]
    uses: dict[str, Use]
    frames: int

    def row(self) -> Row:
        """The frame beside the ping-pongs."""
        times = [ours / bare for ours, bare in zip(self.beyond, self.bare, strict=True)]
        each = ", ".join(
            f"{one:.2f} / {two:.2f}" for one, two in zip(self.beyond, self.bare, strict=True)
        )
        return Row(
            f"a frame beyond its own steps, {self.placement.value}, window 1, p50",
            statistics.median(times),
            TIMES_BARE,
            _MOST_TIMES,
            f"three bare grpc.aio ping-pongs; ms: {each}",
            f"both stages, {PACE_MS:g} ms each",
        )


async def measure(bundle: Path, frames: Path, repetitions: int) -> list[Measured]:
    """Measure every placement.

    Raises:
        ServiceError: a frame failed, or a process did.
    """
    paced = dict.fromkeys(Stage, PACE_MS)
    bare: dict[Host, ServiceProcess] = {}
    async with Cluster(ClusterPlan(bundle, engine="none", paced_milliseconds=paced)) as cluster:
        try:
            for host in (LOCAL_EDGE, LOCAL_WORKSTATION):
                bare[host] = await host.start("bare server", "benchmarks.instant", ["answer"])
            addresses = {
                host: (await process.announcement()).address for host, process in bare.items()
            }
            return [
                await _measure(cluster, addresses, placement, frames, repetitions)
                for placement in PLACEMENTS
            ]
        finally:
            for process in bare.values():
                await process.stop()


async def _measure(
    cluster: Cluster,
    bare: Mapping[Host, str],
    placement: Placement,
    frames: Path,
    repetitions: int,
) -> Measured:
    plan = CameraPlan(
        *(str(frames), placement.value, "int8"), count=_FRAMES, warm_up=_WARM_UP, in_flight=1
    )
    pids = _pids(cluster, placement)
    beyond: list[float] = []
    pings: list[float] = []
    chains: list[float] = []
    all_answers: list[Answer] = []
    uses = dict.fromkeys(pids, Use())
    for _ in range(repetitions):
        before = {name: Use.of(pid) for name, pid in pids.items()}
        answers = await stream(cluster.orchestrator.address, plan)
        for name, pid in pids.items():
            uses[name] += Use.of(pid) - before[name]
        all_answers += answers
        beyond.append(percentile_ms([each.round_trip - each.own_steps for each in answers], 0.5))
        pings.append(await _bare_ms(bare, placement, answers))
        chains.append(await _chain_ms(placement, answers))
    count = repetitions * (_FRAMES + _WARM_UP)
    return Measured(
        placement,
        beyond,
        pings,
        chains,
        {hop.name: percentile_ms([hop.seconds(each) for each in all_answers], 0.5) for hop in HOPS},
        uses,
        count,
    )


def _pids(cluster: Cluster, placement: Placement) -> dict[str, int]:
    nodes = {
        Stage.BACKBONE: placement.backbone_node,
        Stage.TRANSFORMER: placement.transformer_node,
    }
    stages = {
        each.stage.value: each.announcement.pid
        for each in cluster.stages
        if nodes[each.stage] == each.node
    }
    return {"orchestrator": cluster.orchestrator.pid, **stages}


async def _bare_ms(
    bare: Mapping[Host, str], placement: Placement, answers: Sequence[Answer]
) -> float:
    """The three ping-pongs of a frame's way, from core to core as the frame goes."""
    frame_bytes, feature_bytes = _mean_bytes(answers)
    ways = (
        *((LOCAL_EDGE, frame_bytes), (LOCAL_EDGE, frame_bytes)),
        (_last_host(placement), feature_bytes),
    )
    return sum([await _ping_ms(bare[host], count, PACE_MS) for host, count in ways])


async def _chain_ms(placement: Placement, answers: Sequence[Answer]) -> float:
    """A frame's way through bare servers, whose links sleep where an engine would run."""
    frame_bytes, feature_bytes = _mean_bytes(answers)
    links: list[ServiceProcess] = []

    async def link(host: Host, milliseconds: float, sent_bytes: int) -> None:
        further = [links[-1].told["address"], str(sent_bytes)] if links else []
        arguments = [str(milliseconds), *further]
        links.append(await host.start("bare link", "benchmarks.bare_chain", arguments))
        await links[-1].announcement()

    try:
        # Each has to know the next one's address.
        await link(_last_host(placement), PACE_MS, 0)
        await link(LOCAL_EDGE, PACE_MS, feature_bytes)
        await link(LOCAL_EDGE, 0.0, frame_bytes)
        # A client sends its next frame at once: the chain itself has slept.
        return await _ping_ms(links[-1].told["address"], frame_bytes, 0.0) - 2 * PACE_MS
    finally:
        for each in links:
            await each.stop()


def _mean_bytes(answers: Sequence[Answer]) -> tuple[int, int]:
    """Of a frame, and of its features."""
    frame_bytes = statistics.fmean(each.frame_bytes for each in answers)
    return round(frame_bytes), round(statistics.fmean(each.feature_bytes for each in answers))


def _last_host(placement: Placement) -> Host:
    return LOCAL_WORKSTATION if placement.transformer_node == WORKSTATION else LOCAL_EDGE


async def _ping_ms(address: str, message_bytes: int, pace_ms: float) -> float:
    """Ping a bare server at this pace; the median in milliseconds."""
    message, seconds = bytes(message_bytes), []
    async with open_channel(address) as channel:
        call: Any = channel.stream_stream(PROCESS)()
        for _ in range(_WARM_UP + _FRAMES):
            await asyncio.sleep(pace_ms / 1000)
            began = time.perf_counter()
            await call.write(message)
            await call.read()
            seconds.append(time.perf_counter() - began)
        call.cancel()
    return percentile_ms(seconds[_WARM_UP:], 0.5)


def _table(measured: Sequence[Measured]) -> Table:
    table = Table()
    for heading in ("where", *(f"{each.placement.value}, p50 ms" for each in measured)):
        table.add_column(heading)
    for hop in HOPS:
        table.add_row(hop.name, *(f"{each.hops[hop.name]:.2f}" for each in measured))
    bare = [statistics.median(each.bare) for each in measured]
    table.add_row("three bare ping-pongs", *(f"{each:.2f}" for each in bare))
    chains = [statistics.median(each.chain) for each in measured]
    table.add_row("the same chain with nothing of Tandem's", *(f"{each:.2f}" for each in chains))
    for name in measured[0].uses:
        uses = [(each.uses[name], each.frames) for each in measured]
        processor = [f"{1000 * use.processor_seconds / frames:.2f}" for use, frames in uses]
        table.add_row(f"{name}, processor ms a frame", *processor)
        wake_ups = [f"{use.wake_ups / frames:.1f}" for use, frames in uses]
        table.add_row(f"{name}, wake-ups a frame", *wake_ups)
    return table


def main() -> None:
    """Run, print, write; exits 1 when a figure is not as required."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of models and frames")
    parser.add_argument("--repetitions", type=int, default=_REPETITIONS)
    parser.add_argument("--csv", type=Path, help="file to write")
    options = parser.parse_args()
    # Of the services, each has its own core; the client is where the cameras are.
    os.sched_setaffinity(0, {LOCAL_EDGE.core or 0})
    bundle, frames = R18.bundle(options.folder), R18.frames(options.folder)
    measured = run_to_end(measure(bundle, frames, options.repetitions))
    show_table("Where a frame's time goes", _table(measured))
    conclude("Hops", [each.row() for each in measured], options.csv)


if __name__ == "__main__":
    main()
