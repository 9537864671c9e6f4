"""A live camera over a link of 64 kbit/s, by each codec and by the one that the server chooses.

`python -m benchmarks.slow_link` needs root, as `benchmarks.link` does. Camera and orchestrator are
on the edge, all four stages run, and frames of the shipped clip come 24 times a second, so that
latents are coded given the frame before as they would be. Engines are paced. What a frame takes of
the link is read from the shapers, so that it counts everything: headers of every layer, answers,
acknowledgements, heartbeats.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.camera import Answer, CameraPlan
from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import ShapedLink, run_to_end
from benchmarks.report import percentile_ms, show_table, write_csv
from common.bundle import load_bundle
from common.domain.codec import LATENT_CODECS
from common.domain.errors import ConfigurationError
from common.domain.placement import Placement, Stage
from tandem.shipped import shipped_bundle, shipped_clip
from tandem.sources import open_source

KILOBITS = 64.0
CAMERA_FPS = 24.0
PACE_MS = 20.0
CHOSEN = "chosen"
"""In the place of a codec: the server chooses."""
CODECS = ("int8", "q4", *(codec.value for codec in LATENT_CODECS), CHOSEN)
_LATENT = {*(codec.value for codec in LATENT_CODECS), CHOSEN}
_SECONDS = 15.0
_WARM_UP_SECONDS = 5.0
_FULL_MEGABITS = 100.0
_REQUIRED_FPS = 20.0
# The orchestrator's own default; local clusters look more often.
_HEARTBEATS = ("--health-interval-seconds", "0.5", "--objective", "accuracy")


@dataclass(frozen=True)
class SlowLinkRow:
    """One run.

    Attributes:
        kilobits: rate of the link, each direction, kbit/s.
        codec: asked for, or `chosen`.
        codecs_used: that features travelled by, the most frequent first.
        sent_fps: of the camera.
        fps: answered with detections; the other frames were dropped for newer ones.
        payload_bytes: of a served frame's features, mean.
        up_bytes: of everything on the link to the workstation, for each served frame.
        down_bytes: the same on the link to the edge.
        up_share: of the link to the workstation that was in use.
        down_share: of the link to the edge.
        p50_ms: latency in the orchestrator, from reading a frame to its answer.
        p95_ms: the same.
        simulated: what was paced.
    """

    kilobits: float
    codec: str
    codecs_used: str
    sent_fps: float
    fps: float
    payload_bytes: int
    up_bytes: int
    down_bytes: int
    up_share: float
    down_share: float
    p50_ms: float
    p95_ms: float
    simulated: str = f"both stages, {PACE_MS:g} ms each"

    @property
    def passed(self) -> bool | None:
        """Whether it is enough; None when nothing is asked."""
        return self.fps >= _REQUIRED_FPS if self.codec in _LATENT else None


async def measure(
    bundle: Path, kilobits: float, codecs: Sequence[str], seconds: float
) -> list[SlowLinkRow]:
    """A row for each codec, all over one cluster.

    Raises:
        ConfigurationError: the bundle has no bottleneck, or this process is not root.
    """
    if load_bundle(bundle).manifest.bottleneck is None and _LATENT.intersection(codecs):
        raise ConfigurationError(f"{bundle} has no bottleneck, which latent codecs need")
    rows = []
    with tempfile.TemporaryDirectory(prefix="tandem-clip-") as frames, ShapedLink() as link:
        write_clip(Path(frames))
        link.shape(_FULL_MEGABITS)
        plan = ClusterPlan(
            bundle,
            link.edge,
            link.workstation,
            link.edge,
            paced_milliseconds=dict.fromkeys(Stage, PACE_MS),
            orchestrator=_HEARTBEATS,
        )
        async with Cluster(plan) as cluster:
            link.shape(kilobits / 1e3)
            for codec in codecs:
                rows.append(await measure_codec(cluster, link, plan_for(frames, codec, seconds)))
                sys.stderr.write(f"{rows[-1]}\n")
    return rows


def plan_for(frames: str, codec: str, seconds: float) -> CameraPlan:
    """A live camera that sends the files of a folder, in order."""
    return CameraPlan(
        frames,
        Placement.BACKBONE.value,
        "" if codec == CHOSEN else codec,
        count=round(seconds * CAMERA_FPS),
        warm_up=round(_WARM_UP_SECONDS * CAMERA_FPS),
        camera_fps=CAMERA_FPS,
    )


async def measure_codec(cluster: Cluster, link: ShapedLink, plan: CameraPlan) -> SlowLinkRow:
    """Stream for a while by one codec; the first seconds are left out of the rate."""
    before = link.carried_bytes()
    answers = await cluster.stream(plan)
    after = link.carried_bytes()
    served = [answer for answer in answers if not answer.dropped]
    frames = len(answers) + plan.warm_up
    seconds = frames / CAMERA_FPS
    total_served = max(1.0, frames * len(served) / len(answers))
    up, down = (last - first for last, first in zip(after, before, strict=True))
    used = Counter(answer.codec for answer in served)
    latencies = [answer.served for answer in served] or [0.0]
    return SlowLinkRow(
        kilobits=link.megabits * 1e3,
        codec=plan.codec or CHOSEN,
        codecs_used=" ".join(name for name, _ in used.most_common()),
        sent_fps=CAMERA_FPS,
        fps=_rate(served),
        payload_bytes=round(sum(each.feature_bytes for each in served) / max(1, len(served))),
        up_bytes=round(up / total_served),
        down_bytes=round(down / total_served),
        up_share=up / seconds / (link.megabits * 125_000),
        down_share=down / seconds / (link.megabits * 125_000),
        p50_ms=percentile_ms(latencies, 0.50),
        p95_ms=percentile_ms(latencies, 0.95),
    )


def _rate(served: Sequence[Answer]) -> float:
    """Frames a second by the times of the answers."""
    if len(served) < 2:
        return 0.0
    return (len(served) - 1) / (served[-1].answered_at - served[0].answered_at)


def write_clip(folder: Path) -> None:
    """Every frame of the shipped clip as a JPEG file, in order."""
    with closing(open_source(str(shipped_clip()))) as source:
        for index, frame in enumerate(source):
            (folder / f"{index:05}.jpg").write_bytes(frame.image.data)


def show(rows: Sequence[SlowLinkRow]) -> None:
    """Print the rows, in green and red where something is required."""
    table = Table()
    for heading in ("codec", "used", "frames/s", "payload B", "B up", "B down", "up", "down"):
        named = heading in {"codec", "used"}
        table.add_column(heading, justify="left" if named else "right")
    table.add_column("p50 ms", justify="right")
    table.add_column("p95 ms", justify="right")
    for row in rows:
        table.add_row(
            *(row.codec, row.codecs_used, f"{row.fps:.1f}", str(row.payload_bytes)),
            *(str(row.up_bytes), str(row.down_bytes)),
            *(f"{row.up_share:.0%}", f"{row.down_share:.0%}"),
            *(f"{row.p50_ms:.0f}", f"{row.p95_ms:.0f}"),
            style={True: "green", False: "red", None: ""}[row.passed],
        )
    title = f"{rows[0].sent_fps:g} frames/s live over {rows[0].kilobits:g} kbit/s"
    show_table(f"{title}, {rows[0].simulated} (simulated)", table)


def main() -> None:
    """Run, print, write; exits 1 when a figure is below what is required."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kilobits", type=float, default=KILOBITS, help="kbit/s, each direction")
    parser.add_argument("--codec", action="append", help=f"default: {', '.join(CODECS)}")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="measured for each codec")
    parser.add_argument("--bundle", type=Path, help="the one that ships by default")
    parser.add_argument("--csv", type=Path, help="file to write")
    options = parser.parse_args()
    bundle = options.bundle or shipped_bundle()
    codecs = options.codec or CODECS
    rows = run_to_end(measure(bundle, options.kilobits, codecs, options.seconds))
    show(rows)
    if options.csv:
        write_csv(options.csv, rows)
    sys.exit(any(row.passed is False for row in rows))


if __name__ == "__main__":
    main()
