"""Does the automatic placement follow a link whose rate changes?

`python -m benchmarks.adaptation` needs root: edge and workstation are network
namespaces with a link between them that is shaped anew every few seconds while a stream runs, with
the orchestrator on the edge and then on the workstation. Engines are paced so that the best
placement changes with the link; both stages of a node share its device. The automatic placement is
set against each fixed one, once it has had the time to react that is asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.camera import Answer, CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import Host, ShapedLink, run_to_end
from benchmarks.report import frames_per_second, show_table, write_csv
from benchmarks.workload import DEFAULT_FOLDER, R18, R50
from common.domain.placement import EDGE, WORKSTATION, Placement, Stage

AUTOMATIC = "auto"
MEGABITS = (1000, 100, 20, 5)
NODES = (EDGE, WORKSTATION)
PACE_MS = {
    (EDGE, Stage.BACKBONE): 40.0,
    (EDGE, Stage.TRANSFORMER): 30.0,
    (WORKSTATION, Stage.BACKBONE): 30.0,
    (WORKSTATION, Stage.TRANSFORMER): 20.0,
}
SIMULATED = "engines, in ms: " + ", ".join(
    f"{node} {stage.value} {pace:g}" for (node, stage), pace in PACE_MS.items()
)
_CODEC = "int8"
_START_SECONDS = 5.0
_REACTION_SECONDS = 3.0
_MEASURED_SECONDS = 6.0
_PHASE_SECONDS = _REACTION_SECONDS + _MEASURED_SECONDS
_ENDLESS = 1_000_000
_REQUIRED = 0.95


@dataclass(frozen=True)
class Phase:
    """The answers while the link had one rate.

    Attributes:
        megabits: rate of the link, each direction, Mbit/s.
        began_at: when it was set, by `time.perf_counter`.
        answers: up to the next rate.
    """

    megabits: int
    began_at: float
    answers: Sequence[Answer]

    @property
    def fps(self) -> float:
        """Reached once the time to react was over."""
        steady = [each for each in self.answers if each.answered_at >= self._reacted_by]
        return frames_per_second(steady) if len(steady) > 1 else 0.0

    @property
    def placement(self) -> str:
        """That the phase ended with."""
        return self.answers[-1].placement if self.answers else "none"

    @property
    def reaction_seconds(self) -> float:
        """From the change of the link to the last answer by another placement; 0 without one."""
        others = [each for each in self.answers if each.placement != self.placement]
        return others[-1].answered_at - self.began_at if others else 0.0

    @property
    def _reacted_by(self) -> float:
        return self.began_at + _REACTION_SECONDS


@dataclass(frozen=True)
class AdaptationRow:
    """The automatic placement at one rate of the link.

    Attributes:
        located_at: node that orchestrator and client run on.
        megabits: rate of the link, each direction, Mbit/s.
        before: the rate before, Mbit/s; 0: none.
        full: frames a second of this placement.
        backbone: the same.
        transformer: the same.
        workstation: the same.
        auto: of the automatic one, after the time to react.
        chosen: what that was in the end.
        ratio: of `auto` to the best of the fixed ones.
        reaction_seconds: from the change of the link to the last frame by another placement.
        simulated: what was paced.
    """

    located_at: str
    megabits: int
    before: int
    full: float
    backbone: float
    transformer: float
    workstation: float
    auto: float
    chosen: str
    ratio: float
    reaction_seconds: float
    simulated: str = SIMULATED

    @property
    def passed(self) -> bool:
        """Whether it came close enough, in time."""
        return self.ratio >= _REQUIRED and self.reaction_seconds <= _REACTION_SECONDS


def cluster_plan(bundle: Path, link: ShapedLink, located_at: Host) -> ClusterPlan:
    """Both nodes, each with one device that its stages share."""
    own = os.getpid()
    return ClusterPlan(
        bundle,
        link.edge,
        link.workstation,
        located_at,
        "none",
        extra={
            (node, stage): (
                *("--paced-milliseconds", str(pace)),
                *("--paced-device", f"{node}-{own}"),
            )
            for (node, stage), pace in PACE_MS.items()
        },
        orchestrator=("--located-at", located_at.node),
    )


async def sweep(
    cluster: Cluster, link: ShapedLink, placement: str, rates: Sequence[int], frames: Path
) -> list[Phase]:
    """Stream while the link has one rate after the other."""
    link.shape(rates[0])
    seconds = _START_SECONDS + len(rates) * _PHASE_SECONDS
    plan = CameraPlan(str(frames), placement, _CODEC, _ENDLESS, warm_up=0, seconds=seconds)
    streaming = asyncio.create_task(cluster.stream(plan))
    await asyncio.sleep(_START_SECONDS)
    changes = []
    for rate in rates:
        changes.append((rate, time.perf_counter()))
        link.shape(rate)
        await asyncio.wait([streaming], timeout=_PHASE_SECONDS)
    ended = time.perf_counter()
    # What is still under way need not wait for a slow link.
    link.shape(max(rates))
    return list(_phases(changes, ended, await streaming))


def _phases(
    changes: Sequence[tuple[int, float]], ended: float, answers: Sequence[Answer]
) -> Iterator[Phase]:
    ends = [*(began_at for _, began_at in changes[1:]), ended]
    for (rate, began_at), until in zip(changes, ends, strict=True):
        within = [each for each in answers if began_at <= each.answered_at < until]
        yield Phase(rate, began_at, within)


async def measure(folder: Path, rates: Sequence[int], places: Sequence[str]) -> list[AdaptationRow]:
    """Every fixed placement down the rates; the automatic one down and up again."""
    rows = []
    with ShapedLink() as link:
        for host in (each for each in (link.edge, link.workstation) if each.node in places):
            async with Cluster(cluster_plan(R18.bundle(folder), link, host)) as cluster:
                frames = R50.frames(folder)
                fixed: dict[int, dict[str, float]] = {rate: {} for rate in rates}
                for placement in Placement:
                    for phase in await sweep(cluster, link, placement.value, rates, frames):
                        fixed[phase.megabits][placement.value] = phase.fps
                there_and_back = [*rates, *reversed(rates[:-1])]
                phases = await sweep(cluster, link, AUTOMATIC, there_and_back, frames)
            for row in _rows(host.node, phases, fixed):
                sys.stderr.write(f"{row}\n")
                rows.append(row)
    return rows


def _rows(
    located_at: str, phases: Sequence[Phase], fixed: Mapping[int, Mapping[str, float]]
) -> Iterator[AdaptationRow]:
    before = [0, *(phase.megabits for phase in phases)]
    for phase, rate_before in zip(phases, before, strict=False):
        reached = fixed[phase.megabits]
        yield AdaptationRow(
            located_at,
            phase.megabits,
            rate_before,
            full=reached[Placement.FULL.value],
            backbone=reached[Placement.BACKBONE.value],
            transformer=reached[Placement.TRANSFORMER.value],
            workstation=reached[Placement.WORKSTATION.value],
            auto=phase.fps,
            chosen=phase.placement,
            ratio=phase.fps / max(*reached.values(), 1e-9),
            # The start of the first phase is no change.
            reaction_seconds=phase.reaction_seconds if rate_before else 0.0,
        )


def show(rows: Sequence[AdaptationRow]) -> None:
    """Print the rows, in green and red."""
    table = Table()
    headings = ("at", "Mbit/s", "before", *(each.value for each in Placement), AUTOMATIC, "chosen")
    for heading in (*headings, "ratio", "reaction"):
        table.add_column(heading, justify="left" if heading in {"at", "chosen"} else "right")
    for row in rows:
        rates = (row.full, row.backbone, row.transformer, row.workstation, row.auto)
        table.add_row(
            *(row.located_at, str(row.megabits), str(row.before or "")),
            *(f"{rate:.1f}" for rate in rates),
            *(row.chosen, f"{row.ratio:.3f}", f"{row.reaction_seconds:.1f} s"),
            style="green" if row.passed else "red",
        )
    show_table(f"Frames a second over a link that changes; simulated {SIMULATED}", table)


def main() -> None:
    """Run, print, write; exits 1 when the automatic placement falls behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", action="append", type=int, help=f"Mbit/s; default: {MEGABITS}")
    parser.add_argument("--at", action="append", choices=NODES, help="orchestrator; default: both")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of model and frames")
    parser.add_argument("--csv", type=Path, help="file to write")
    options = parser.parse_args()
    rows = run_to_end(measure(options.folder, options.rate or MEGABITS, options.at or NODES))
    show(rows)
    if options.csv:
        write_csv(options.csv, rows)
    sys.exit(not all(row.passed for row in rows))


if __name__ == "__main__":
    main()
