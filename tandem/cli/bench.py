"""`tandem bench`: what each placement reaches on this machine, or on a running system."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from common.bundle import load_bundle
from common.domain.codec import Codec
from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage
from common.domain.placement import Placement, Stage
from common.domain.video import AccessUnit, VideoFormat
from common.files import refuse_overwriting
from tandem.bench import BenchPlan, BenchReport, measure, report, report_to_json
from tandem.cli.access import AccessOptions, with_access
from tandem.cli.console import frame_progress, kilobytes, show_json, show_line, show_table
from tandem.cli.options import (
    PLACEMENT_NAMES,
    BitsPerSecondOption,
    BundleOption,
    CodecOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    OptionalServerOption,
    PacedOption,
    PrecisionOption,
    RemoteServer,
    local_cluster,
    parse_paced,
    refuse_both,
    refuse_with_server,
    refuse_without_server,
    remote_server,
)
from tandem.cli.running import run
from tandem.cluster import ClusterOptions
from tandem.shipped import camera_clip, shipped_bundle, shipped_clip
from tandem.sources import VideoForm, open_source
from tandem.trace import write_trace

# Distinct frames kept in memory and sent over and over.
_MAX_DISTINCT_FRAMES = 64
# They are small, and only a group's mean tells how small.
_MAX_DISTINCT_UNITS = 512


@with_access
def bench(
    *,
    server: OptionalServerOption = None,
    model: ModelOption = None,
    bundle: BundleOption = None,
    device: DeviceOption = None,
    engine_precision: PrecisionOption = "auto",
    placement: Annotated[
        Placement | None,
        typer.Option(
            metavar="NAME", help=f"Measure this one only: {PLACEMENT_NAMES}; all if left out."
        ),
    ] = None,
    codec: CodecOption = None,
    bits_per_second: BitsPerSecondOption = None,
    frames: Annotated[
        int, typer.Option(min=2, help="Frames measured for each placement, over all clients.")
    ] = 100,
    warm_up: Annotated[
        int, typer.Option(min=0, help="Frames answered before the measurement begins.")
    ] = 30,
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Frames of one stream in flight at a time; as few as keep it busy if left out.",
        ),
    ] = None,
    clients: Annotated[int, typer.Option(min=1, help="Concurrent streams.")] = 1,
    paced: PacedOption = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="Frames to send; those of the shipped clip if left out."
        ),
    ] = None,
    video: Annotated[
        bool,
        typer.Option(
            "--video",
            help="Send the access units of the source, which is H.264 or H.265, as they are; those "
            "of the shipped clip as a camera makes it if --source is left out. Without it every "
            "frame is sent as JPEG.",
        ),
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a trace of the last placement's run, for ui.perfetto.dev or Chrome.",
        ),
    ] = None,
    json: JsonOption = False,
    access: AccessOptions,
) -> None:
    """Measure throughput and latency of each placement, beside the best possible.

    Without --server local nodes are started for the time of the run.
    """
    refuse_both(codec, bits_per_second)
    refuse_with_server(server, bundle=bundle, device=device, paced=paced)
    refuse_without_server(server, model)
    pace = parse_paced(paced)
    if video:
        sent = _Sent(*load_units(source or str(camera_clip()), writing=trace))
    else:
        sent = _Sent(load_images(source or str(shipped_clip()), writing=trace), None)
    plans = [
        BenchPlan(
            *(one, codec, frames, warm_up, clients, window),
            bits_per_second=bits_per_second or 0,
            model=model or "",
        )
        for one in ([placement] if placement else Placement)
    ]
    where = remote_server(server, access) or ClusterOptions(
        bundle=bundle or shipped_bundle(),
        device=device,
        precision=engine_precision,
        paced_milliseconds=pace,
        window=window,
    )
    reports = run(_bench(where, sent, plans, codec, pace=pace, trace=trace))
    if json:
        show_json([report_to_json(one) for one in reports])
    else:
        show_reports(reports)


def load_images(source: str, writing: Path | None = None) -> list[EncodedImage]:
    """The first frames of a source, compressed, so that reading does not count.

    Args:
        source: see `open_source`.
        writing: a file that is about to be written, which must not be the source.
    """
    with closing(open_source(source)) as opened:
        if writing is not None:
            refuse_overwriting(writing, opened.info.paths)
        return [frame.image for frame in itertools.islice(opened, _MAX_DISTINCT_FRAMES)]


def load_units(source: str, writing: Path | None = None) -> tuple[list[AccessUnit], VideoFormat]:
    """The first access units of a source, which begin with a key frame, and what they are of.

    Raises:
        InvalidInputError: it is no H.264 or H.265 that the services decode.
    """
    obstacles: list[str] = []
    with closing(open_source(source, tell=obstacles.append)) as opened:
        if writing is not None:
            refuse_overwriting(writing, opened.info.paths)
        opened.deliver(VideoForm.ACCESS_UNITS)
        frames = list(itertools.islice(opened, _MAX_DISTINCT_UNITS))
    units = [frame.content for frame in frames if isinstance(frame.content, AccessUnit)]
    if not frames or frames[0].video is None or len(units) < len(frames):
        raise InvalidInputError(
            next(iter(obstacles), f"{opened.info.name} is no H.264 or H.265 video")
        )
    return units, frames[0].video


def show_reports(reports: list[BenchReport]) -> None:
    """A table for people."""
    table = Table("placement", "codec")
    for name in ("frames/s", "ideal", "share", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for name in ("backbone ms", "transformer ms", "kB/frame on the link"):
        table.add_column(name, justify="right")
    for one in reports:
        latency = one.latency_ms
        table.add_row(
            *(one.placement.value, one.codec or "the model's own"),
            *(f"{one.fps:.1f}", f"{one.ideal_fps:.1f}", f"{one.efficiency:.0%}"),
            *(f"{value:.0f}" for value in (latency.p50, latency.p95, latency.p99)),
            *(f"{one.stage_ms[stage.value]['execute']:.1f}" for stage in Stage),
            kilobytes(one.bytes_per_frame),
        )
    show_table(table)
    show_line(
        "ideal: one over the longer of the two executions; link: between edge and workstation, "
        "with the cameras on the edge"
    )
    for stage, milliseconds in reports[0].simulated.items():
        show_line(f"simulated: the {stage} takes at least {milliseconds:g} ms")


@dataclass(frozen=True)
class _Sent:
    """What is sent over and over: pictures, or access units of a video."""

    frames: list[EncodedImage] | list[AccessUnit]
    video: VideoFormat | None


async def _bench(
    where: RemoteServer | ClusterOptions,
    sent: _Sent,
    plans: list[BenchPlan],
    codec: Codec | None,
    *,
    pace: dict[Stage, float],
    trace: Path | None,
) -> list[BenchReport]:
    name = codec.value if codec else None
    reports = []
    async with AsyncExitStack() as stack:
        if isinstance(where, ClusterOptions):
            if not plans[0].bits_per_second:
                name = name or load_bundle(where.bundle).manifest.codec.default
            cluster = await stack.enter_async_context(local_cluster(where))
            where = RemoteServer(cluster.orchestrator.address, None)
        for plan in plans:
            total = plan.warm_up_frames + plan.frames
            with frame_progress(f"placement {plan.placement.value}", total) as advance:
                samples = await measure(
                    *(where.address, sent.frames, plan, advance),
                    credentials=where.credentials,
                    video=sent.video,
                )
            reports.append(report(plan, samples, name, pace))
            if trace is not None:
                write_trace(trace, [sample.result for sample in samples])
    return reports
