"""What do batches of several streams' frames gain, and what do they cost a lone camera?

`python -m benchmarks.batching` runs two systems side by side, one with batches and one without.
Their engines are paced: a batch of 8 takes 2.5 times as long as one frame, as on a GPU that a
single frame does not fill. Rounds with the one and the other alternate, so that what else the
machine does meets both.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.camera import Answer, CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import run_to_end
from benchmarks.report import Row, frames_per_second, percentile_ms, show, write_csv
from benchmarks.workload import DEFAULT_FOLDER, R18
from common.domain.placement import EDGE, WORKSTATION, Placement, Stage

PACE_MS = 50.0
BATCH_MS = {2: 60.0, 4: 80.0, 8: 2.5 * PACE_MS}
CLIENTS = 16
_MAX_BATCH = 8
_USED = ((EDGE, Stage.BACKBONE), (WORKSTATION, Stage.TRANSFORMER))
_CODEC = "int8"
_SIMULATED = f"both engines {PACE_MS:g} ms a frame, {BATCH_MS[8]:g} ms for 8"
# The lone camera's frames go one at a time for its latency, and as fast as they are taken for its
# rate.
_LONE_LATENCY = {"clients": 1, "in_flight": 1, "count": 60, "warm_up": 5}
_LONE_RATE = {"clients": 1, "count": 120, "warm_up": 20}
_MANY_RATE = {"clients": CLIENTS, "count": 960, "warm_up": 160}
_REQUIRED_GAIN = 3.0
_REQUIRED_SHARE = 0.99
_MOST_MORE_MS = 0.2


def plan_of(bundle: Path, max_batch: int, window: int) -> ClusterPlan:
    """A backbone on one node and a transformer on the other, which execute batches of this size.

    Args:
        bundle: of both.
        max_batch: frames executed together at most.
        window: frames of a session in flight; 0: each session finds its own.
    """
    curve = [f"{frames}={milliseconds:g}" for frames, milliseconds in BATCH_MS.items()]
    batches = ("--paced-batch", ",".join(curve), "--max-batch", str(max_batch))
    return ClusterPlan(
        bundle,
        engine="none",
        paced_milliseconds=dict.fromkeys(Stage, PACE_MS),
        used=_USED,
        extra=dict.fromkeys(_USED, batches),
        orchestrator=("--window", str(window)) if window else (),
    )


async def measure(folder: Path, rounds: int, window: int) -> list[Row]:
    """Both systems, in rounds."""
    bundle, frames = R18.bundle(folder), str(R18.frames(folder))
    async with AsyncExitStack() as stack:
        alone = await stack.enter_async_context(Cluster(plan_of(bundle, 1, window)))
        together = await stack.enter_async_context(Cluster(plan_of(bundle, _MAX_BATCH, window)))

        async def answers(cluster: Cluster, what: dict[str, int]) -> list[Answer]:
            plan = CameraPlan(frames, Placement.BACKBONE.value, _CODEC, **what)  # type: ignore[arg-type]
            return await cluster.stream(plan)

        measured = [
            [
                [await answers(cluster, what) for cluster in (alone, together)]
                for what in (_LONE_LATENCY, _LONE_RATE, _MANY_RATE)
            ]
            for _ in range(rounds)
        ]
    return _rows(measured)


def _rows(measured: Sequence[Sequence[Sequence[list[Answer]]]]) -> list[Row]:
    """What the rounds say: each holds, of each kind of clients, the answers alone and together."""

    def rate(kind: int, system: int) -> float:
        return statistics.median(frames_per_second(each[kind][system]) for each in measured)

    latencies = [
        percentile_ms([answer.round_trip for each in measured for answer in each[0][system]], 0.5)
        for system in (0, 1)
    ]
    return [
        Row(
            f"{CLIENTS} clients against 1, with batches",
            rate(2, 1) / rate(1, 1),
            "times",
            _REQUIRED_GAIN,
            f"{rate(2, 1):.1f} and {rate(1, 1):.1f} frames/s",
            _SIMULATED,
        ),
        Row(
            f"{CLIENTS} clients against 1, without batches",
            rate(2, 0) / rate(1, 0),
            "times",
            None,
            f"{rate(2, 0):.1f} and {rate(1, 0):.1f} frames/s",
            _SIMULATED,
        ),
        Row(
            "1 client, batches on against off",
            rate(1, 1) / rate(1, 0),
            "",
            _REQUIRED_SHARE,
            f"{rate(1, 1):.2f} and {rate(1, 0):.2f} frames/s",
            _SIMULATED,
        ),
        Row(
            "1 client, one frame at a time, p50 more with batches on",
            latencies[1] - latencies[0],
            "ms",
            _MOST_MORE_MS,
            f"{latencies[1]:.2f} and {latencies[0]:.2f} ms",
            _SIMULATED,
        ),
    ]


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of models and frames")
    parser.add_argument("--rounds", type=int, default=3, help="of every measurement")
    parser.add_argument("--window", type=int, default=0, help="of each session; 0: its own choice")
    parser.add_argument("--csv", type=Path, help="file to write the table to")
    arguments = parser.parse_args()
    rows = run_to_end(measure(arguments.folder, arguments.rounds, arguments.window))
    show("Batches of several streams' frames", rows)
    if arguments.csv:
        write_csv(arguments.csv, rows)


if __name__ == "__main__":
    main()
