"""`tandem detect`: pictures, videos and cameras to boxes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer

from common.domain.detections import DEFAULT_SCORE_THRESHOLD
from common.domain.errors import ServiceError
from tandem.cli.access import AccessOptions, with_access
from tandem.cli.console import frame_progress, sentence, show_json, show_line, show_notice
from tandem.cli.detection import (
    DetectionRequest,
    RunSummary,
    detect_source,
    local_detection,
    served_detection,
)
from tandem.cli.options import (
    BitsPerSecondOption,
    BundleOption,
    CodecOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    OptionalServerOption,
    PlacementOption,
    PrecisionOption,
    RemoteServer,
    RequireSignatureOption,
    ServerReconnectOption,
    TranscodeOption,
    refuse_both,
    refuse_with_server,
    refuse_without_server,
    remote_server,
)
from tandem.cli.running import run
from tandem.client import DEFAULT_RECONNECT_SECONDS as SERVER_RECONNECT_SECONDS
from tandem.cluster import ClusterOptions
from tandem.feed import Detect
from tandem.pictures import JPEG_QUALITY
from tandem.results import FrameResult
from tandem.shipped import shipped_bundle
from tandem.sinks import frame_to_json, open_sink
from tandem.sources import (
    DEFAULT_RECONNECT_SECONDS,
    Source,
    SourceFrame,
    SourceKind,
    VideoForm,
    open_source,
)
from tandem.threads import call_in_thread


@with_access
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
    device: DeviceOption = None,
    engine_precision: PrecisionOption = "auto",
    require_signature: RequireSignatureOption = None,
    model: ModelOption = None,
    placement: PlacementOption = None,
    codec: CodecOption = None,
    bits_per_second: BitsPerSecondOption = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out boxes with a lower score.")
    ] = DEFAULT_SCORE_THRESHOLD,
    max_detections: Annotated[
        int,
        typer.Option(
            min=0, help="Most boxes in a frame, those with the highest scores; 0 for all."
        ),
    ] = 0,
    track: Annotated[
        bool,
        typer.Option("--track", help="Number the objects, and follow them from frame to frame."),
    ] = False,
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
    transcode: TranscodeOption = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help=f"JPEG quality of video frames as they are sent; implies --transcode jpeg. "
            f"{JPEG_QUALITY} where JPEG is sent anyway.",
        ),
    ] = None,
    json: JsonOption = False,
    access: AccessOptions,
) -> None:
    """Detect objects in a picture, a folder, a video, a camera's or a network stream.

    Without --server the model runs in this process; --placement, --codec, --bits-per-second, --live
    and cameras start local nodes for the time of the run. Without --output the boxes are printed.
    Frames that cannot be served are named, and the exit code is then 1.
    """
    refuse_both(codec, bits_per_second)
    refuse_with_server(server, bundle=bundle, device=device)
    refuse_without_server(server, model)
    where = remote_server(server, access) or ClusterOptions(
        bundle=bundle or shipped_bundle(),
        device=device,
        precision=engine_precision,
        require_signature=require_signature,
    )

    def opened() -> Source:
        return open_source(
            source,
            quality or JPEG_QUALITY,
            live=live,
            reconnect_seconds=reconnect_seconds,
            tell=show_notice,
        )

    def request(kind: SourceKind) -> DetectionRequest:
        return DetectionRequest(
            placement=placement,
            codec=codec,
            bits_per_second=bits_per_second or 0,
            threshold=threshold,
            max_detections=max_detections,
            live=kind is SourceKind.LIVE if live is None else live,
            limit=limit,
            transcode=transcode is not None or quality is not None,
            track=track,
            model=model or "",
        )

    patience = server_reconnect_seconds
    summary = run(_detect(opened, where, request, output, json, server_reconnect_seconds=patience))
    if summary.failed:
        raise ServiceError(
            f"{summary.failed} of {summary.frames} frames could not be served; the first is "
            f"{summary.first_failure}"
        )


async def _detect(
    opened: Callable[[], Source],
    where: RemoteServer | ClusterOptions,
    request_for: Callable[[SourceKind], DetectionRequest],
    output: Path | None,
    as_json: bool,
    *,
    server_reconnect_seconds: float,
) -> RunSummary:
    with ExitStack() as stack:
        source = stack.enter_context(closing(await call_in_thread(opened)))
        request = request_for(source.info.kind)
        source.deliver(_form(where, request))
        sink = stack.enter_context(closing(open_sink(output, source.info))) if output else None
        async with _detection(where, request, server_reconnect_seconds) as detect:
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

                summary = await detect_source(detect, source, request, sink, report)
    if not as_json:
        show_line(_summary(summary, source.damaged_frames, output))
    return summary


def _form(where: RemoteServer | ClusterOptions, request: DetectionRequest) -> VideoForm:
    """How the frames of a video are needed."""
    if request.transcode:
        return VideoForm.JPEG
    is_here = _is_here(where, request)
    return VideoForm.PIXELS if is_here else VideoForm.ACCESS_UNITS


def _is_here(where: RemoteServer | ClusterOptions, request: DetectionRequest) -> bool:
    """Whether this process detects, and needs no services."""
    return isinstance(where, ClusterOptions) and not request.needs_services


def _detection(
    where: RemoteServer | ClusterOptions, request: DetectionRequest, reconnect_seconds: float
) -> AbstractAsyncContextManager[Detect]:
    """By a server, or by local nodes; in this process where neither is needed."""
    if isinstance(where, ClusterOptions) and _is_here(where, request):
        return local_detection(where, request)
    return served_detection(where, request, reconnect_seconds)


def _summary(summary: RunSummary, damaged: int, output: Path | None) -> str:
    rate = summary.frames / summary.seconds if summary.seconds > 0 else 0.0
    parts = [f"{summary.frames} frames, {summary.detections} objects, {rate:.1f} frames a second"]
    if summary.dropped:
        parts.append(f"{summary.dropped} frames dropped for newer ones")
    if damaged:
        parts.append(f"{damaged} damaged frames left out")
    if output is not None and summary.frames > summary.failed:
        parts.append(f"written to {output}")
    return "; ".join(parts)


def _smaller(count: int | None, limit: int | None) -> int | None:
    known = [number for number in (count, limit) if number is not None]
    return min(known, default=None)
