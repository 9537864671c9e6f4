"""Tandem against the thesis's way, MPI, on the same work in the same run.

`python -m benchmarks.mpi` runs both halves of a real R18 at 480x640, a core each, over
MPI (mpi4py and Open MPI, non-blocking sends, TCP) and over Tandem with the fp32 codec; and then,
with root, what the thesis did: fp32 C5 of an R50 at 800x1066 over a link of 100 Mbit/s, paced as on
its TX2, against Tandem on the same link. Install requirements/bench.in first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.camera import CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import ROOT, ShapedLink, run_command, run_to_end
from benchmarks.mpi_ranks import RanksPlan
from benchmarks.report import Row, conclude, frames_per_second
from benchmarks.workload import DEFAULT_FOLDER, R18, R50, R50_C5
from common.domain.errors import ConfigurationError
from common.domain.placement import Placement, Stage

TX2_MS = {Stage.BACKBONE: 21.0, Stage.TRANSFORMER: 12.0}
MEGABITS = 100
# Only TCP, as between two machines; no shared memory.
_TCP = ("--mca", "btl", "tcp,self", "--mca", "pml", "ob1")
_COMMON = ("--allow-run-as-root", "--timeout", "300", "--bind-to", "none", "-n", "2", *_TCP)
_CORES = (0, 1)


def _mpirun() -> str:
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise ConfigurationError("Open MPI is missing: pip install -r requirements/bench.in")
    return found


def _ranks(plan: RanksPlan) -> list[str]:
    module = "benchmarks.mpi_ranks"
    return [sys.executable, "-m", module, json.dumps(asdict(plan))]


async def local_mpi(plan: RanksPlan) -> float:
    """Frames a second of both ranks on this machine, over TCP on loopback."""
    places = ("--oversubscribe", "--mca", "btl_tcp_if_include", "lo")
    return float(await run_command([_mpirun(), *_COMMON, *places, *_ranks(plan)]))


async def linked_mpi(link: ShapedLink, plan: RanksPlan) -> float:
    """Frames a second of a rank on each side of the link."""
    with tempfile.TemporaryDirectory(prefix="tandem-mpi-") as folder:
        agent = Path(folder) / "agent"
        # What mpirun calls in place of ssh: HOST COMMAND...
        agent.write_text(
            "#!/bin/sh\nshift\n"
            f'exec ip netns exec {link.workstation.namespace} unshare --uts sh -c "hostname '
            f'workstation; $*"\n'
        )
        agent.chmod(agent.stat().st_mode | stat.S_IXUSR)
        near = ["ip", "netns", "exec", str(link.edge.namespace)]
        hosts = f"{link.edge.address}:1,{link.workstation.address}:1"
        places = [
            *("--host", hosts),
            *("--prtemca", "plm_ssh_agent", str(agent)),
            *("--mca", "btl_tcp_if_include", "10.77.0.0/24"),
            *("-x", f"PYTHONPATH={ROOT}", "--wdir", str(ROOT)),
        ]
        return float(await run_command([*near, _mpirun(), *_COMMON, *places, *_ranks(plan)]))


async def same_work(folder: Path) -> Row:
    """Real R18, a core each, fp32 both."""
    bundle, frames = R18.bundle(folder), R18.frames(folder)
    ranks = RanksPlan(str(bundle), str(frames), 60, 10, {}, _CORES)
    camera = CameraPlan(str(frames), Placement.BACKBONE.value, "fp32", count=60, warm_up=20)
    before = await local_mpi(ranks)
    async with Cluster(ClusterPlan(bundle)) as cluster:
        tandem = frames_per_second(await cluster.stream(camera))
    after = await local_mpi(ranks)
    mpi = (before + after) / 2
    return Row(
        f"frames/s against MPI, fp32 both, {R18.name}",
        tandem / mpi,
        "",
        0.97,
        f"MPI {before:.3f} frames/s before and {after:.3f} after, Tandem {tandem:.3f}",
    )


async def as_the_thesis(folder: Path, codecs: Sequence[str]) -> list[Row]:
    """fp32 C5 over MPI, projected features over Tandem, on the same shaped link."""
    c5, projected, frames = R50_C5.bundle(folder), R50.bundle(folder), R50.frames(folder)
    pace = {stage.value: milliseconds for stage, milliseconds in TX2_MS.items()}
    paced = f"backbone {TX2_MS[Stage.BACKBONE]:g} ms, transformer {TX2_MS[Stage.TRANSFORMER]:g} ms"
    rows = []
    with ShapedLink() as link:
        link.shape(MEGABITS)
        mpi = await linked_mpi(link, RanksPlan(str(c5), str(frames), 20, 3, pace, _CORES))
        plan = ClusterPlan(
            projected, link.edge, link.workstation, link.edge, "none", paced_milliseconds=TX2_MS
        )
        async with Cluster(plan) as cluster:
            for codec in codecs:
                camera = CameraPlan(str(frames), Placement.BACKBONE.value, codec)
                tandem = frames_per_second(await cluster.stream(camera))
                rows.append(
                    Row(
                        f"frames/s against MPI sending fp32 C5, {R50.name}, {MEGABITS} Mbit/s, "
                        f"{codec}",
                        tandem / mpi,
                        "",
                        15.0,
                        f"MPI {mpi:.3f} frames/s, Tandem {tandem:.2f}",
                        paced,
                    )
                )
    return rows


async def measure(folder: Path, codecs: Sequence[str]) -> list[Row]:
    """Both comparisons; the second only as root."""
    rows = [await same_work(folder)]
    if os.geteuid() == 0:
        rows += await as_the_thesis(folder, codecs)
    return rows


def main() -> None:
    """Run, print, write; exits 1 when a figure is below what is required."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codec", action="append", help="of Tandem on the link; default: int8")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="of models and frames")
    parser.add_argument("--csv", type=Path, help="file to write")
    options = parser.parse_args()
    rows = run_to_end(measure(options.folder, options.codec or ["int8"]))
    conclude("Tandem against MPI", rows, options.csv)


if __name__ == "__main__":
    main()
