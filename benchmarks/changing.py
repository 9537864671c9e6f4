"""What does it cost to change the bundle under load?

`python -m benchmarks.changing` streams while all stages change over to another bundle, and back,
every few seconds: twice by `tandem model deploy`, twice by SIGHUP to one stage after the other, and
so on. The bundles are of a real size and are loaded by the real engine, whose executions are paced
to be slower than they are. The client checks that every frame is answered once and in order; an
error ends the run. Gaps are those between answers at the client. With `--live` the stream is a
camera's, whose newest frame wins; its dropped frames do not count as answers.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.camera import Answer, CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import LOCAL_EDGE, run_to_end
from benchmarks.report import Row, conclude, frames_per_second, percentile_ms
from benchmarks.workload import DEFAULT_FOLDER, R18
from common.bundle import load_bundle
from common.domain.placement import Placement, Stage
from common.domain.status import SystemStatus
from tandem.client import DetectorClient

PACE_MS = 150.0
CHANGES = 8
# More than the stages can serve.
LIVE_FPS = 15.0
_CODEC = "int8"
_ENDLESS = 1_000_000
# Python, a channel, and the first frames.
_START_SECONDS = 4.0
# From one change to the next: both bundles are loaded and warmed up, streams have changed over, and
# what was served before is released.
_INTERVAL_SECONDS = 8.0
# How long after a change its cost is looked for: streams change over, and memory is released.
_AFTER_SECONDS = 3.0
_LOOK_SECONDS = 0.1
_NAMES = ("second", "first")
# Two frames, each through both stages.
_REQUIRED_GAP_MS = 2 * len(Stage) * PACE_MS


@dataclass(frozen=True)
class Versions:
    """Two versions of a bundle, and a link to one of them, which the stages' settings name.

    Attributes:
        folder: in which they lie.
    """

    folder: Path

    @staticmethod
    def of(bundle: Path, folder: Path) -> Versions:
        """Make both in `folder`; they differ in name only."""
        for name in ("first", "second"):
            shutil.copytree(bundle, folder / name, copy_function=os.link)
            manifest = folder / name / "bundle.json"
            told = json.loads(manifest.read_text(encoding="utf-8"))
            manifest.unlink()
            manifest.write_text(json.dumps({**told, "name": name}), encoding="utf-8")
        versions = Versions(folder)
        versions.point_to("first")
        return versions

    @property
    def link(self) -> Path:
        """Leads to one of them."""
        return self.folder / "current"

    def digest(self, name: str) -> str:
        """Of one of them."""
        return load_bundle(self.folder / name).digest

    def point_to(self, name: str) -> None:
        """Have the link lead to one of them."""
        beside = self.folder / "beside"
        beside.symlink_to(name)
        beside.replace(self.link)


async def changed(cluster: Cluster, versions: Versions, changes: int) -> list[tuple[float, float]]:
    """Change over so often; of each change when it began, and when every stage had done so."""
    times = []
    async with DetectorClient(cluster.orchestrator.address) as operator:
        due = time.perf_counter()
        for number in range(changes):
            name = _NAMES[number % 2]
            began = time.perf_counter()
            if number // 2 % 2:
                versions.point_to(name)
                for number_told, stage in enumerate(cluster.stages, 1):
                    os.kill(stage.announcement.pid, signal.SIGHUP)
                    async for status in operator.watch_status(_LOOK_SECONDS):
                        if _serving(status, name) == number_told:
                            break
            else:
                await operator.deploy(name, versions.digest(name))
            times.append((began, time.perf_counter()))
            due += _INTERVAL_SECONDS
            await asyncio.sleep(due - time.perf_counter())
    return times


def longest_gaps(periods: Sequence[tuple[float, float]], answers: Sequence[Answer]) -> list[float]:
    """The longest time without an answer in each period, seconds."""
    times = [answer.answered_at for answer in answers]
    return [
        max(
            later - earlier
            for earlier, later in itertools.pairwise(times)
            if later > begin and earlier < end
        )
        for begin, end in periods
        if begin < end
    ]


async def measure(
    bundle: Path, frames: Path, changes: int, *, camera_fps: float = 0.0
) -> list[Row]:
    """One stream, whose bundle is changed under it; `camera_fps` as of `CameraPlan`."""
    with tempfile.TemporaryDirectory(prefix="tandem-changing-", dir=bundle.parent) as folder:
        versions = Versions.of(bundle, Path(folder))
        node = LOCAL_EDGE.node
        plan = ClusterPlan(
            versions.link,
            edge=replace(LOCAL_EDGE, core=None),
            paced_milliseconds=dict.fromkeys(Stage, PACE_MS),
            used=[(node, stage) for stage in Stage],
            extra={(node, stage): ("--bundles", folder) for stage in Stage},
        )
        camera = CameraPlan(
            *(str(frames), Placement.FULL.value, _CODEC, _ENDLESS),
            warm_up=0,
            seconds=_START_SECONDS + changes * _INTERVAL_SECONDS,
            camera_fps=camera_fps,
        )
        async with Cluster(plan) as cluster:
            streaming = asyncio.create_task(cluster.stream(camera))
            await asyncio.sleep(_START_SECONDS)
            times = await changed(cluster, versions, changes)
            answers = await streaming
    return rows(times, answers)


def rows(times: Sequence[tuple[float, float]], answers: Sequence[Answer]) -> list[Row]:
    """What was measured.

    Args:
        times: of each change when it began, and when it was complete.
        answers: of all frames.
    """
    served = [answer for answer in answers if not answer.dropped]
    changing = [(began, ended + _AFTER_SECONDS) for began, ended in times]
    between = [
        (ended + _AFTER_SECONDS, began)
        for (_, ended), (began, _) in itertools.pairwise((*times, (served[-1].answered_at, 0.0)))
    ]
    gaps, others = longest_gaps(changing, served), longest_gaps(between, served)
    dropped = len(answers) - len(served)
    simulated = f"both stages, {PACE_MS:g} ms each"
    limit = f"two frames, {_REQUIRED_GAP_MS:g} ms"
    fps = frames_per_second(served) * PACE_MS / 1000
    return [
        Row("changes of the bundle", len(times), "", simulated=simulated),
        Row("answers, all in order", len(answers), "", simulated=simulated),
        Row("of these, dropped for newer ones", dropped, "", simulated=simulated),
        Row(
            "a change takes, median",
            percentile_ms([ended - began for began, ended in times], 0.5),
            *("ms", None, "", simulated),
        ),
        Row("longest gap between changes", 1000 * max(others), "ms", None, limit, simulated),
        Row(
            "longest gap of a change, median",
            *(percentile_ms(gaps, 0.5), "ms", _REQUIRED_GAP_MS, limit, simulated),
        ),
        Row(
            "longest gap of any change",
            *(1000 * max(gaps), "ms", _REQUIRED_GAP_MS, limit, simulated),
        ),
        Row("of the ideal rate", fps, "", None, "engines without a pause", simulated),
    ]


def _serving(status: SystemStatus, name: str) -> int:
    """How many stages serve this version."""
    return sum(model.bundle_name == name for stage in status.stages for model in stage.models)


def main() -> None:
    """Run, print, write; exits 1 when a figure is below what is required."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=CHANGES, help="half by each way")
    parser.add_argument(
        "--live", action="store_true", help=f"a camera of {LIVE_FPS:g} frames/s, and not a file"
    )
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of model and frames")
    parser.add_argument("--csv", type=Path, help="file to write")
    options = parser.parse_args()
    bundle, frames = R18.bundle(options.folder), R18.frames(options.folder)
    camera_fps = LIVE_FPS if options.live else 0.0
    conclude(
        "Changing the bundle under load",
        run_to_end(measure(bundle, frames, options.changes, camera_fps=camera_fps)),
        options.csv,
    )


if __name__ == "__main__":
    main()
