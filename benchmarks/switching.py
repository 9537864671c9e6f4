"""What does it cost to change the placement under load?

`python -m benchmarks.switching` streams for a minute while the placement is set to
another one every two seconds, and the same without that. All placements are equally fast: engines
are paced, each with a device of its own. The client checks that every frame is answered once and in
order; an error ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.camera import Answer, CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import run_to_end
from benchmarks.report import (
    Row,
    conclude,
    frames_per_second,
    percentile_ms,
)
from benchmarks.workload import DEFAULT_FOLDER, R18
from common.domain.placement import Placement, Stage
from tandem.client import DetectorClient

PACE_MS = 20.0
PACED = dict.fromkeys(Stage, PACE_MS)
SECONDS = 60.0
_INTERVAL_SECONDS = 2.0
_CODEC = "int8"
_ENDLESS = 1_000_000
# A probe takes a frame's time; what is measured here is the switch.
_NO_PROBES = ("--probe-share", "0")
# Python, a channel, and the first frames.
_START_SECONDS = 4.0
# A frame is on the new placement by then; what follows is no matter of the switch.
_SWITCH_SECONDS = 1.0
_REQUIRED_SHARE = 0.9
# Two frames, each through both stages.
_REQUIRED_GAP_MS = 2 * sum(PACED.values())


async def switched(address: str, seconds: float) -> list[float]:
    """Set one placement after the other; when, by `time.perf_counter`."""
    times = []
    placements = itertools.cycle(Placement)
    end = time.perf_counter() + seconds
    async with DetectorClient(address) as operator:
        due = time.perf_counter()
        while due < end:
            times.append(time.perf_counter())
            await operator.set_placement(next(placements))
            due += _INTERVAL_SECONDS
            await asyncio.sleep(due - time.perf_counter())
        await operator.set_placement(None)
    return times


def gaps_at(switches: Sequence[float], answers: Sequence[Answer]) -> list[float]:
    """The longest time without an answer about each switch, seconds."""
    times = [answer.answered_at for answer in answers]
    gaps = []
    for switch in switches:
        about = [each for each in times if switch - _SWITCH_SECONDS < each]
        about = [each for each in about if each < switch + _SWITCH_SECONDS]
        after = [pair for pair in itertools.pairwise(about) if pair[1] > switch]
        gaps.append(max(later - earlier for earlier, later in after))
    return gaps


async def measure(folder: Path, seconds: float) -> list[Row]:
    """One stream that stays, one that is moved about."""
    frames = str(R18.frames(folder))
    plan = ClusterPlan(
        R18.bundle(folder), engine="none", paced_milliseconds=PACED, orchestrator=_NO_PROBES
    )

    def camera(placement: str, duration_seconds: float) -> CameraPlan:
        return CameraPlan(frames, placement, _CODEC, _ENDLESS, warm_up=0, seconds=duration_seconds)

    async with Cluster(plan) as cluster:
        still = []
        for placement in Placement:
            answers = await cluster.stream(camera(placement.value, seconds / len(Placement)))
            still.append(frames_per_second(answers))
        streaming = asyncio.create_task(cluster.stream(camera("auto", _START_SECONDS + seconds)))
        await asyncio.sleep(_START_SECONDS)
        switches = await switched(cluster.orchestrator.address, seconds)
        answers = await streaming
    moved = [each for each in answers if switches[0] <= each.answered_at <= switches[-1]]
    return _rows(statistics.fmean(still), moved, gaps_at(switches[1:], answers))


def _rows(still_fps: float, moved: Sequence[Answer], gaps: Sequence[float]) -> list[Row]:
    fps = frames_per_second(moved)
    simulated = f"both stages, {PACE_MS:g} ms each"
    limit = f"two frames, {_REQUIRED_GAP_MS:g} ms"
    return [
        Row("not switched", still_fps, "frames/s", simulated=simulated),
        Row("switched every 2 s", fps, "frames/s", simulated=simulated),
        Row("of the rate kept", fps / still_fps, "", _REQUIRED_SHARE, "not switched", simulated),
        Row("gap at a switch, median", percentile_ms(gaps, 0.5), "ms", None, limit, simulated),
        Row(
            "gap at a switch, p95",
            percentile_ms(gaps, 0.95),
            "ms",
            _REQUIRED_GAP_MS,
            limit,
            simulated,
        ),
        Row("gap at a switch, longest", 1000 * max(gaps), "ms", None, limit, simulated),
        Row("switches", len(gaps), "", simulated=simulated),
        Row("answers, all in order", len(moved), "", simulated=simulated),
    ]


def main() -> None:
    """Run, print, write; exits 1 when a figure is below what is required."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each of the two runs")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of model and frames")
    parser.add_argument("--csv", type=Path, help="file to write")
    options = parser.parse_args()
    rows = run_to_end(measure(options.folder, options.seconds))
    conclude("Changing the placement under load", rows, options.csv)


if __name__ == "__main__":
    main()
