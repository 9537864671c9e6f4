"""Every placement and codec over a real, slow link.

`python -m benchmarks.link` needs root: it puts edge and workstation into network
namespaces with a veth pair between them, shaped by tbf in both directions, each node on a core of
its own, and measures with cameras (client and orchestrator) on the edge and then on the
workstation. Engines are paced, so that only Tandem and the link vary. Ideally a frame takes as
long as the slower of its engines and its way over the link: payload bytes * 8 / rate, each
direction for itself. That is counted frame by frame: pictures of one scene are about as large as
one another, and the few frames in flight cannot make up for a scene that the link is too slow for.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.camera import Answer, CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import ShapedLink, run_to_end
from benchmarks.report import (
    frames_per_second,
    percentile_ms,
    show_table,
    write_csv,
)
from benchmarks.workload import DEFAULT_FOLDER, R18
from common.domain.placement import EDGE, Placement, Stage

MEGABITS = (1000, 100, 20)
CODECS = ("fp32", "int8", "q4", "q3")
PACE_MS = 20.0
PACED = dict.fromkeys(Stage, PACE_MS)
_SPLIT = (Placement.BACKBONE, Placement.TRANSFORMER)
_DELAY_MS = 10.0
_SECONDS = 4.0
_WARM_UP_SECONDS = 1.5
_PROBE_FRAMES = 4
_LEAST_FRAMES = 20
# At 100 Mbit/s with int8, where the halves are apart.
_REQUIRED = 0.93


@dataclass(frozen=True)
class LinkRow:
    """One run.

    Attributes:
        megabits: rate of the link, each direction, Mbit/s.
        delay_ms: added to each way.
        cameras: node that client and orchestrator run on.
        placement: name.
        codec: name; empty when no features cross the link.
        to_workstation_bytes: payload a frame.
        to_edge_bytes: payload a frame, without the answer's kilobyte.
        ideal_fps: one over what a frame takes in the mean, the longest of backbone, transformer and
            link.
        fps: reached.
        efficiency: of the ideal.
        p50_ms: latency in the orchestrator, from reading a frame to its answer.
        p95_ms: the same.
        simulated: what was paced.
    """

    megabits: int
    delay_ms: float
    cameras: str
    placement: str
    codec: str
    to_workstation_bytes: int
    to_edge_bytes: int
    ideal_fps: float
    fps: float
    efficiency: float
    p50_ms: float
    p95_ms: float
    simulated: str = f"both stages, {PACE_MS:g} ms each"

    @property
    def passed(self) -> bool | None:
        """Whether it is enough; None when nothing is asked."""
        if self.megabits != 100 or self.codec != "int8" or self.delay_ms:
            return None
        return self.efficiency >= _REQUIRED


@dataclass(frozen=True)
class Case:
    """What to run on one cluster."""

    megabits: int
    delay_ms: float
    cameras: str
    placement: Placement
    codec: str


def link_bytes(placement: Placement, cameras: str, answer: Answer) -> tuple[int, int]:
    """Payload of one frame to the workstation and to the edge."""
    to_edge = {True: 0, False: 0}
    if placement.backbone_node != cameras:
        to_edge[placement.backbone_node == EDGE] += answer.frame_bytes
    if placement.transformer_node != placement.backbone_node:
        to_edge[placement.transformer_node == EDGE] += answer.feature_bytes
    return to_edge[False], to_edge[True]


async def measure_case(cluster: Cluster, case: Case, frames: Path) -> LinkRow:
    """Probe the sizes, then run for as many frames as fit the time."""
    probe = CameraPlan(
        str(frames), case.placement.value, case.codec, count=_PROBE_FRAMES, warm_up=0, in_flight=2
    )
    ideal = _ideal_fps(case, await cluster.stream(probe))
    answers = await cluster.stream(
        CameraPlan(
            str(frames),
            case.placement.value,
            case.codec,
            count=max(_LEAST_FRAMES, int(_SECONDS * ideal)),
            warm_up=max(_LEAST_FRAMES, int(_WARM_UP_SECONDS * ideal)),
        )
    )
    ideal = _ideal_fps(case, answers)
    directions = _bytes_each_direction(case, answers)
    fps = frames_per_second(answers)
    served = [answer.served for answer in answers]
    return LinkRow(
        case.megabits,
        case.delay_ms,
        case.cameras,
        case.placement.value,
        case.codec if case.placement in _SPLIT else "",
        round(statistics.fmean(up for up, _ in directions)),
        round(statistics.fmean(down for _, down in directions)),
        ideal,
        fps,
        fps / ideal,
        percentile_ms(served, 0.50),
        percentile_ms(served, 0.95),
    )


def _bytes_each_direction(case: Case, answers: Sequence[Answer]) -> list[tuple[int, int]]:
    return [link_bytes(case.placement, case.cameras, answer) for answer in answers]


def _ideal_fps(case: Case, answers: Sequence[Answer]) -> float:
    seconds = [
        max(PACE_MS / 1000, 8 * max(direction) / (case.megabits * 1e6))
        for direction in _bytes_each_direction(case, answers)
    ]
    return 1 / statistics.fmean(seconds)


async def measure(folder: Path, rates: Sequence[int], codecs: Sequence[str]) -> list[LinkRow]:
    """All cases; one cluster for each place of the cameras."""
    rows = []
    with ShapedLink() as link:
        for cameras in (link.edge, link.workstation):
            for delay_ms in (0.0, _DELAY_MS):
                plan = ClusterPlan(
                    R18.bundle(folder),
                    link.edge,
                    link.workstation,
                    cameras,
                    "none",
                    PACED,
                    delay_ms,
                )
                link.shape(max(rates))
                async with Cluster(plan) as cluster:
                    for case in _cases(cameras.node, delay_ms, rates, codecs):
                        link.shape(case.megabits)
                        rows.append(await measure_case(cluster, case, R18.frames(folder)))
                        sys.stderr.write(f"{rows[-1]}\n")
    return rows


def _cases(
    cameras: str, delay_ms: float, rates: Sequence[int], codecs: Sequence[str]
) -> Iterator[Case]:
    """With a delay only what a delay may change: one rate, one codec."""
    if delay_ms:
        for placement in _SPLIT:
            yield Case(100, delay_ms, cameras, placement, "int8")
        return
    for rate in rates:
        for placement in Placement:
            for codec in codecs if placement in _SPLIT else codecs[:1]:
                yield Case(rate, delay_ms, cameras, placement, codec)


def show(rows: Sequence[LinkRow]) -> None:
    """Print the rows, in green and red where something is required."""
    table = Table()
    headings = ("Mbit/s", "delay", "cameras", "placement", "codec", "kB up", "kB down")
    for heading in (*headings, "ideal fps", "fps", "efficiency", "p50 ms", "p95 ms"):
        named = heading in {"cameras", "placement", "codec"}
        table.add_column(heading, justify="left" if named else "right")
    for row in rows:
        table.add_row(
            *(str(row.megabits), f"{row.delay_ms:g} ms", row.cameras, row.placement, row.codec),
            *(f"{row.to_workstation_bytes / 1000:.1f}", f"{row.to_edge_bytes / 1000:.1f}"),
            *(f"{row.ideal_fps:.2f}", f"{row.fps:.2f}", f"{row.efficiency:.3f}"),
            *(f"{row.p50_ms:.1f}", f"{row.p95_ms:.1f}"),
            style={True: "green", False: "red", None: ""}[row.passed],
        )
    show_table(f"Over a shaped link, {R18.name}, {rows[0].simulated} (simulated)", table)


def main() -> None:
    """Run, print, write; exits 1 when a figure is below what is required."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", action="append", type=int, help="Mbit/s; default: 1000, 100, 20")
    parser.add_argument("--codec", action="append", help=f"default: {', '.join(CODECS)}")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of models and frames")
    parser.add_argument("--csv", type=Path, help="file to write")
    options = parser.parse_args()
    rows = run_to_end(measure(options.folder, options.rate or MEGABITS, options.codec or CODECS))
    show(rows)
    if options.csv:
        write_csv(options.csv, rows)
    sys.exit(any(row.passed is False for row in rows))


if __name__ == "__main__":
    main()
