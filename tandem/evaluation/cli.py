"""`tandem evaluate`. The client's command loads `app` by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from common.bundle import load_bundle
from common.domain.codec import Codec
from common.files import refuse_overwriting
from tandem.cli.access import AccessOptions, with_access
from tandem.cli.console import (
    frame_progress,
    kilobytes,
    show_json,
    show_line,
    show_notice,
    show_table,
)
from tandem.cli.options import (
    PLACEMENT_NAMES,
    BundleOption,
    CodecOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    OptionalServerOption,
    PlacementChoice,
    PrecisionOption,
    RemoteServer,
    detector,
    refuse_with_server,
    refuse_without_server,
    remote_server,
)
from tandem.cli.running import run
from tandem.cluster import ClusterOptions
from tandem.evaluation.answers import AnswerFile
from tandem.evaluation.picture_set import PictureSet, category_names, open_picture_set
from tandem.evaluation.report import WRITTEN, figures_table, summary, write_report
from tandem.evaluation.run import EvaluationPlan, judge, stream
from tandem.evaluation.sending import JpegSending
from tandem.shipped import shipped_bundle

ANSWERS_NAME = "unfinished.jsonl"
DEFAULT_OUTPUT = Path("output/evaluate")

app = typer.Typer(help="Measure accuracy.", add_completion=False, pretty_exceptions_enable=False)


@app.command("evaluate")
@with_access
def evaluate(
    *,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the pictures.")],
    annotations: Annotated[
        Path, typer.Option(metavar="FILE", help="Their objects, in COCO's instances format.")
    ],
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Only this many pictures: those with the lowest ids."),
    ] = None,
    placement: Annotated[
        PlacementChoice,
        typer.Option(
            metavar="NAME",
            help=f"Which node runs which half of the model: {PLACEMENT_NAMES}, or auto.",
        ),
    ] = PlacementChoice.AUTO,
    codec: CodecOption = None,
    server: OptionalServerOption = None,
    model: ModelOption = None,
    bundle: BundleOption = None,
    device: DeviceOption = None,
    engine_precision: PrecisionOption = "auto",
    jpeg_quality: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Send each picture as a JPEG of this quality, and not as its file is.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder for results.json (COCO's format), record.json and precision-recall.png.",
        ),
    ] = DEFAULT_OUTPUT,
    json: JsonOption = False,
    access: AccessOptions,
) -> None:
    """Measure COCO average precision through running services.

    Every detection counts, whatever its score. Without --server local nodes are started for the
    time of the run. A stopped run goes on where it was when it is started again with the same
    options and output folder.
    """
    refuse_with_server(server, bundle=bundle, device=device)
    refuse_without_server(server, model)
    where = remote_server(server, access) or ClusterOptions(
        bundle=bundle or shipped_bundle(), device=device, precision=engine_precision
    )
    names = None
    if isinstance(where, ClusterOptions):
        names = category_names(load_bundle(where.bundle))
    pictures = open_picture_set(images, annotations, limit, model=names, say=show_notice)
    inputs = [annotations, *(picture.path for picture in pictures.pictures)]
    for name in (ANSWERS_NAME, *WRITTEN):
        refuse_overwriting(output / name, inputs)
    plan = EvaluationPlan(
        placement=placement.placement,
        codec=codec,
        jpeg=None if jpeg_quality is None else JpegSending(jpeg_quality),
        model=model or "",
    )
    settings = {
        **_where(where, codec),
        **({"model": model} if model else {}),
        "set": pictures.digest,
        "frames": len(pictures.pictures),
        "placement": placement.value,
        "jpeg_quality": jpeg_quality,
    }
    file = AnswerFile(output / ANSWERS_NAME, settings)
    resumed = run(_stream(where, pictures, plan, file, visible=not json))
    evaluation = judge(pictures, file.answers)
    write_report(output, evaluation, settings, resumed)
    file.remove()
    if json:
        show_json(summary(evaluation))
        return
    show_table(figures_table(evaluation))
    size = evaluation.bytes_per_frame
    link = f", {kilobytes(size)} kB a frame on the link" if size is not None else ""
    show_line(f"{evaluation.frames} frames, {evaluation.fps:.1f} a second{link}")
    show_line(f"written to {output}: results.json, record.json, precision-recall.png")


def _where(where: RemoteServer | ClusterOptions, codec: Codec | None) -> dict[str, Any]:
    """Which model runs, as far as it is known, and the codec's name."""
    name = codec.value if codec else None
    if isinstance(where, RemoteServer):
        return {"server": where.address, "bundle": None, "codec": name}
    bundle = load_bundle(where.bundle)
    return {
        "server": None,
        "bundle": bundle.digest,
        "codec": name or bundle.manifest.codec.default,
    }


async def _stream(
    where: RemoteServer | ClusterOptions,
    pictures: PictureSet,
    plan: EvaluationPlan,
    file: AnswerFile,
    *,
    visible: bool,
) -> int:
    """Let the file have every answer; returns how many it had already."""
    with file:
        remaining = len(pictures.pictures) - file.resumed
        if remaining:
            async with detector(where) as client:
                with frame_progress("evaluating", remaining, visible) as advance:
                    await stream(client, pictures, plan, file, advance)
        return file.resumed
