"""`tandem detect`: pictures, videos and cameras to boxes."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from client.commands.options import (
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
from client.console import frame_progress, sentence, show_json, show_line
from client.detecting import DetectionRequest, Tally, detect_source
from client.detector import DEFAULT_RECONNECT_SECONDS, pair_named
from client.local import LocalOptions
from client.pictures import JPEG_QUALITY
from client.results import FrameResult, result_to_json
from client.running import run
from client.shipped import shipped_bundle
from client.sinks import open_sink
from client.sources import Source, SourceFrame, SourceKind, open_source
from common.domain.errors import ServiceError


def detect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A picture, a folder of pictures, a video, a camera's number, or a URL (RTSP "
            "or HTTP).",
        ),
    ],
    *,
    server: OptionalServerOption = None,
    bundle: BundleOption = None,
    placement: PlacementOption = AUTOMATIC,
    codec: CodecOption = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out boxes with a lower score.")
    ] = 0.7,
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
    server_reconnect_seconds: ServerReconnectOption = DEFAULT_RECONNECT_SECONDS,
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
    with closing(open_source(source, quality)) as opened:
        request = DetectionRequest(
            pair=pair_named(placement),
            codec=codec,
            threshold=threshold,
            max_detections=max_detections,
            live=opened.info.kind is SourceKind.LIVE if live is None else live,
            limit=limit,
        )
        where = server or LocalOptions(bundle=bundle or shipped_bundle())
        patience = server_reconnect_seconds
        tally = run(
            _detect(opened, where, request, output, json, server_reconnect_seconds=patience)
        )
    if tally.failed:
        raise ServiceError(
            f"{tally.failed} of {tally.frames} frames could not be served; the first is "
            f"{tally.first_failure}"
        )


async def _detect(
    source: Source,
    where: str | LocalOptions,
    request: DetectionRequest,
    output: Path | None,
    as_json: bool,
    *,
    server_reconnect_seconds: float,
) -> Tally:
    with ExitStack() as stack:
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
                        show_json({"name": frame.name, **result_to_json(result)})
                    elif output is None:
                        show_line(sentence(frame.name, result))

                tally = await detect_source(client, source, request, sink, report)
    if not as_json:
        show_line(_summary(tally, output))
    return tally


def _summary(tally: Tally, output: Path | None) -> str:
    rate = tally.frames / tally.seconds if tally.seconds > 0 else 0.0
    parts = [f"{tally.frames} frames, {tally.detections} objects, {rate:.1f} frames a second"]
    if tally.dropped:
        parts.append(f"{tally.dropped} frames dropped for newer ones")
    if output is not None:
        parts.append(f"written to {output}")
    return "; ".join(parts)


def _smaller(count: int | None, limit: int | None) -> int | None:
    known = [number for number in (count, limit) if number is not None]
    return min(known, default=None)
