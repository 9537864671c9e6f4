"""`tandem detect`: pictures, videos and cameras to boxes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from common.domain.detections import DEFAULT_SCORE_THRESHOLD
from common.domain.errors import ServiceError
from tandem.cli.console import frame_progress, sentence, show_json, show_line, show_notice
from tandem.cli.detection import DetectionRequest, Tally, detect_source
from tandem.cli.options import (
    AUTOMATIC,
    BundleOption,
    CodecOption,
    JsonOption,
    OptionalServerOption,
    PlacementOption,
    ServerReconnectOption,
    detector,
    refuse_with_server,
)
from tandem.cli.running import run
from tandem.client import DEFAULT_RECONNECT_SECONDS as SERVER_RECONNECT_SECONDS
from tandem.client import pair_named
from tandem.cluster import ClusterOptions
from tandem.pictures import JPEG_QUALITY
from tandem.results import FrameResult
from tandem.shipped import shipped_bundle
from tandem.sinks import frame_to_json, open_sink
from tandem.sources import (
    DEFAULT_RECONNECT_SECONDS,
    Source,
    SourceFrame,
    SourceKind,
    open_source,
)
from tandem.threads import call_in_thread


def detect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A picture, a folder of pictures, a video, a camera's number or device, or a URL "
            "(RTSP or HTTP).",
        ),
    ],
    *,
    server: OptionalServerOption = None,
    bundle: BundleOption = None,
    placement: PlacementOption = AUTOMATIC,
    codec: CodecOption = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out boxes with a lower score.")
    ] = DEFAULT_SCORE_THRESHOLD,
    max_detections: Annotated[
        int, typer.Option(min=0, help="At most this many boxes a frame, the best; 0 for all.")
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="What to write: a picture (.jpg, .png), a video (.mp4, .mkv, .mov), JSON lines "
            "(.json, .jsonl), or a folder of pictures.",
        ),
    ] = None,
    live: Annotated[
        bool | None,
        typer.Option(
            "--live/--every-frame",
            help="Drop frames that come too fast, so that the newest wins; a video file then "
            "plays at its own speed. The default for cameras and network streams.",
        ),
    ] = None,
    server_reconnect_seconds: ServerReconnectOption = SERVER_RECONNECT_SECONDS,
    reconnect_seconds: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="How long to try to get a camera or network stream back that hung up or sends "
            "nothing; 0: not at all.",
        ),
    ] = DEFAULT_RECONNECT_SECONDS,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="JPEG quality of video frames as they are sent.")
    ] = JPEG_QUALITY,
    json: JsonOption = False,
) -> None:
    """Detect objects in a picture, a folder, a video, a camera's or a network stream.

    Without --server local nodes are started for the time of the run. Without --output the boxes
    are printed. Frames that cannot be served are told and make the exit code 1.
    """
    refuse_with_server(server, bundle=bundle)
    pair = pair_named(placement)
    where = server or ClusterOptions(bundle=bundle or shipped_bundle())

    def opened() -> Source:
        return open_source(
            source, quality, live=live, reconnect_seconds=reconnect_seconds, tell=show_notice
        )

    def request(kind: SourceKind) -> DetectionRequest:
        return DetectionRequest(
            pair=pair,
            codec=codec,
            threshold=threshold,
            max_detections=max_detections,
            live=kind is SourceKind.LIVE if live is None else live,
            limit=limit,
        )

    patience = server_reconnect_seconds
    tally = run(_detect(opened, where, request, output, json, server_reconnect_seconds=patience))
    if tally.failed:
        raise ServiceError(
            f"{tally.failed} of {tally.frames} frames could not be served; the first is "
            f"{tally.first_failure}"
        )


async def _detect(
    opened: Callable[[], Source],
    where: str | ClusterOptions,
    request_for: Callable[[SourceKind], DetectionRequest],
    output: Path | None,
    as_json: bool,
    *,
    server_reconnect_seconds: float,
) -> Tally:
    with ExitStack() as stack:
        source = stack.enter_context(closing(await call_in_thread(opened)))
        request = request_for(source.info.kind)
        sink = stack.enter_context(closing(open_sink(output, source.info))) if output else None
        async with detector(where, server_reconnect_seconds) as client:
            lines = as_json or output is None
            total = _smaller(source.info.frame_count, request.limit)
            # A bar and lines would overwrite each other on one terminal.
            visible = not (lines and sys.stdout.isatty())
            with frame_progress(f"detecting in {source.info.name}", total, visible) as advance:

                def report(frame: SourceFrame, result: FrameResult) -> None:
                    advance()
                    if as_json:
                        show_json(frame_to_json(frame, result))
                    elif output is None:
                        show_line(sentence(frame.name, result))

                tally = await detect_source(client, source, request, sink, report)
    if not as_json:
        show_line(_summary(tally, source.damaged_frames, output))
    return tally


def _summary(tally: Tally, damaged: int, output: Path | None) -> str:
    rate = tally.frames / tally.seconds if tally.seconds > 0 else 0.0
    parts = [f"{tally.frames} frames, {tally.detections} objects, {rate:.1f} frames a second"]
    if tally.dropped:
        parts.append(f"{tally.dropped} frames dropped for newer ones")
    if damaged:
        parts.append(f"{damaged} damaged frames left out")
    if output is not None and tally.frames > tally.failed:
        parts.append(f"written to {output}")
    return "; ".join(parts)


def _smaller(count: int | None, limit: int | None) -> int | None:
    known = [number for number in (count, limit) if number is not None]
    return min(known, default=None)
