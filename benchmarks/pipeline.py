"""How close Tandem comes to what its engines could do, without a shaped link.

`python -m benchmarks.pipeline` measures pipeline efficiency with paced and with real
engines, the latency that Tandem adds to a frame, many clients against one, a live camera that is
too fast, and the orchestrator alone; each beside what it is compared with, in the same run. Edge
and cameras are pinned to one core, the workstation to another. The first run makes the models.
"""

from __future__ import annotations

import argparse
import statistics
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.camera import Answer, CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.engines import alone_ms
from benchmarks.hosts import LOCAL_EDGE, LOCAL_WORKSTATION, run_to_end
from benchmarks.processor_time import seconds_by_core
from benchmarks.relaying import orchestrator_alone
from benchmarks.report import (
    Row,
    conclude,
    frames_per_second,
    percentile_ms,
)
from benchmarks.workload import DEFAULT_FOLDER, R18
from common.domain.placement import EDGE, Placement, Stage

PACE_MS = 20.0
_QUICK_PACE_MS = 5.0
# The least efficiency at each pace.
_LEAST_EFFICIENCY = {PACE_MS: 0.99, _QUICK_PACE_MS: 0.95}
_EFFICIENCY_SECONDS = 6.0
_SPLIT = (Placement.BACKBONE, Placement.TRANSFORMER)
_CLIENTS = 16
_OVERLOAD = 4
_ALONE_SECONDS = 6.0
_DROPPED = 'outcome="dropped"'


@dataclass(frozen=True)
class Setting:
    """What all parts run with."""

    bundle: Path
    frames: Path
    codec: str

    def camera(self, placement: Placement, **others: float) -> CameraPlan:
        """A plan of one client."""
        plan = CameraPlan(str(self.frames), placement.value, self.codec)
        return replace(plan, **others)  # type: ignore[arg-type]


async def paced_rows(setting: Setting) -> AsyncIterator[Row]:
    """Efficiency, many clients, and overload, with engines of exactly known speed."""
    async with Cluster(_paced_plan(setting, PACE_MS)) as cluster:
        for placement in _SPLIT:
            yield await _paced_efficiency(cluster, setting, placement, PACE_MS)
        yield await _many_clients(cluster, setting)
        for row in await _overload(cluster, setting):
            yield row
    # With the cameras on the edge's core and on the other: that core may be the bottleneck.
    for cameras in (LOCAL_EDGE, LOCAL_WORKSTATION):
        plan = replace(_paced_plan(setting, _QUICK_PACE_MS), cameras=cameras)
        async with Cluster(plan) as cluster:
            for placement in _SPLIT:
                yield await _paced_efficiency(
                    cluster, setting, placement, _QUICK_PACE_MS, cameras.node
                )


def _paced_plan(setting: Setting, pace_ms: float) -> ClusterPlan:
    paced = dict.fromkeys(Stage, pace_ms)
    return ClusterPlan(setting.bundle, engine="none", paced_milliseconds=paced)


def _simulated(pace_ms: float) -> str:
    return f"both stages, {pace_ms:g} ms each"


async def _paced_efficiency(
    cluster: Cluster, setting: Setting, placement: Placement, pace_ms: float, cameras: str = EDGE
) -> Row:
    count = round(_EFFICIENCY_SECONDS * 1000 / pace_ms)
    plan = setting.camera(placement, count=count, warm_up=count // 5)
    before = seconds_by_core()
    answers = await cluster.stream(plan)
    after, frames = seconds_by_core(), plan.count + plan.warm_up
    edge_ms, workstation_ms = (
        1000 * (after[host.core] - before[host.core]) / frames
        for host in (LOCAL_EDGE, LOCAL_WORKSTATION)
    )
    reached, ideal = frames_per_second(answers), 1000 / pace_ms
    where = "" if cameras == EDGE else f", orchestrator and client on the {cameras}'s core"
    return Row(
        f"pipeline efficiency of {placement.value}, paced to {pace_ms:g} ms{where}",
        reached / ideal,
        "",
        _LEAST_EFFICIENCY[pace_ms],
        f"ideal {ideal:.1f} frames/s, one after another {ideal / 2:.1f}; reached "
        f"{reached:.2f}, {_busy(answers)}; the services' processor time for a frame, of "
        f"{pace_ms:g} ms: {edge_ms:.2f} ms on the edge's core, {workstation_ms:.2f} on the "
        "workstation's",
        _simulated(pace_ms),
    )


async def _many_clients(cluster: Cluster, setting: Setting) -> Row:
    placement = Placement.BACKBONE
    one, many = [
        frames_per_second(
            await cluster.stream(
                setting.camera(placement, clients=clients, count=400, warm_up=20 * clients)
            )
        )
        for clients in (1, _CLIENTS)
    ]
    return Row(
        f"frames/s with {_CLIENTS} clients against 1",
        many / one,
        "",
        0.95,
        f"1 client {one:.2f} frames/s, {_CLIENTS} clients {many:.2f}",
        _simulated(PACE_MS),
    )


async def _overload(cluster: Cluster, setting: Setting) -> list[Row]:
    """A live camera at four times the rate that can be sustained, for about ten seconds."""
    placement = Placement.BACKBONE
    camera_fps = _OVERLOAD * 1000 / PACE_MS
    unloaded = await cluster.stream(setting.camera(placement, in_flight=1, count=100, warm_up=20))
    before = _dropped(cluster)
    plan = setting.camera(placement, camera_fps=camera_fps, count=2000, warm_up=0)
    answers = await cluster.stream(plan)
    counted = _dropped(cluster) - before
    dropped = sum(answer.dropped for answer in answers)
    served = [answer.round_trip for answer in answers if not answer.dropped]
    p50 = percentile_ms([answer.round_trip for answer in unloaded], 0.50)
    p95 = percentile_ms(served, 0.95)
    return [
        Row(
            f"p95 latency of a live camera at {_OVERLOAD} times the sustainable rate",
            p95,
            "ms",
            2.5 * p50,
            f"unloaded p50 {p50:.2f} ms: {p95 / p50:.2f} times; {len(served)} frames served",
            _simulated(PACE_MS),
        ),
        Row(
            "frames dropped then, each answered and counted",
            counted / dropped if dropped else 0.0,
            "",
            1.0,
            f"{plan.count} sent, {len(answers)} answered, {dropped} of them as dropped, "
            f"{counted:.0f} counted in the metrics",
            _simulated(PACE_MS),
        ),
    ]


def _dropped(cluster: Cluster) -> float:
    """Frames that the orchestrator's metrics count as dropped."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(cluster.orchestrator.metrics) as response:
        lines = response.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("tandem_frames_total") and _DROPPED in line
    )


async def real_rows(setting: Setting) -> AsyncIterator[Row]:
    """Efficiency with real engines, a core for each node, the cameras on either."""
    (serial_ms,) = await alone_ms(setting.bundle, _ALONE_SECONDS, (LOCAL_EDGE, list(Stage)))
    for cameras in (LOCAL_EDGE, LOCAL_WORKSTATION):
        async with Cluster(ClusterPlan(setting.bundle, cameras=cameras)) as cluster:
            for placement in _SPLIT:
                yield await _real_efficiency(cluster, setting, placement, serial_ms, cameras.node)


async def _real_efficiency(
    cluster: Cluster, setting: Setting, placement: Placement, serial_ms: float, cameras: str
) -> Row:
    hosts = {host.node: host for host in (LOCAL_EDGE, LOCAL_WORKSTATION)}
    loops = [
        (hosts[placement.backbone_node], [Stage.BACKBONE]),
        (hosts[placement.transformer_node], [Stage.TRANSFORMER]),
    ]
    backbone_ms, transformer_ms = await alone_ms(setting.bundle, _ALONE_SECONDS, *loops)
    answers = await cluster.stream(setting.camera(placement, count=60, warm_up=12))
    fps = frames_per_second(answers)
    ideal = 1000 / max(backbone_ms, transformer_ms)
    return Row(
        f"pipeline efficiency of {placement.value}, {R18.name}, orchestrator and client on the "
        f"{cameras}'s core",
        fps / ideal,
        "",
        0.93,
        f"engines alone, pipelined: {backbone_ms:.1f} and {transformer_ms:.1f} ms, ideal "
        f"{ideal:.2f} frames/s, one after another {1000 / serial_ms:.2f}; reached {fps:.2f}, "
        f"{_busy(answers)}",
    )


async def latency_rows(setting: Setting) -> AsyncIterator[Row]:
    """What Tandem adds to a frame's own steps, seen by the client, real engines."""
    async with Cluster(ClusterPlan(setting.bundle)) as cluster:
        for placement in (Placement.BACKBONE, Placement.FULL):
            plan = setting.camera(placement, in_flight=1, count=50, warm_up=5)
            answers = await cluster.stream(plan)
            added = [answer.round_trip - answer.own_steps for answer in answers]
            yield Row(
                f"latency of a frame beyond its own steps, {placement.value}, window 1, p50",
                percentile_ms(added, 0.5),
                "ms",
                4.0,
                f"own steps {_own_ms(answers):.1f} ms; p95 beyond them "
                f"{percentile_ms(added, 0.95):.2f} ms",
            )


def _own_ms(answers: Sequence[Answer]) -> float:
    return percentile_ms([answer.own_steps for answer in answers], 0.5)


def _busy(answers: Sequence[Answer]) -> str:
    """How much of the time each engine ran; what a paced one takes too long is the machine's."""
    fps = frames_per_second(answers)
    backbone = statistics.fmean(answer.backbone_execute for answer in answers)
    transformer = statistics.fmean(answer.transformer_execute for answer in answers)
    return (
        f"engines busy {backbone * fps:.1%} ({1000 * backbone:.2f} ms) and "
        f"{transformer * fps:.1%} ({1000 * transformer:.2f} ms)"
    )


async def orchestrator_rows(_: Setting) -> AsyncIterator[Row]:
    """See `benchmarks.relaying`."""
    for row in await orchestrator_alone():
        yield row


PARTS: dict[str, Callable[[Setting], AsyncIterator[Row]]] = {
    "orchestrator": orchestrator_rows,
    "paced": paced_rows,
    "latency": latency_rows,
    "real": real_rows,
}


async def measure(setting: Setting, parts: Sequence[str]) -> list[Row]:
    """Run the parts in turn."""
    rows: list[Row] = []
    for part in parts:
        rows += [row async for row in PARTS[part](setting)]
    return rows


def main() -> None:
    """Run, print, write; exits 1 when a figure is below what is required."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codec", default="int8")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of models and frames")
    parser.add_argument("--csv", type=Path, help="file to write")
    parser.add_argument("--part", action="append", choices=tuple(PARTS), help="default: all")
    options = parser.parse_args()
    setting = Setting(R18.bundle(options.folder), R18.frames(options.folder), options.codec)
    rows = run_to_end(measure(setting, options.part or list(PARTS)))
    conclude(f"Pipeline, codec {options.codec}, {R18.name}", rows, options.csv)


if __name__ == "__main__":
    main()
