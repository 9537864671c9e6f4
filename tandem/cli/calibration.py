"""`tandem model calibrate`: what codecs have to know of a model, measured for its bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.bundle import Bundle, RateMeasurement, load_bundle
from common.domain.codec import CALIBRATION_FRAMES, LATENT_CODECS, Codec
from common.domain.errors import ConfigurationError
from tandem.bundle_calibration import CalibratedBundle, calibrate_bundle
from tandem.cli.commands import missing_extra
from tandem.cli.console import frame_progress, show_json, show_line, show_notice, show_table
from tandem.cli.options import JsonOption
from tandem.cli.running import run
from tandem.sources import open_source

_DEFAULT_ENGINE = "onnxruntime"


def calibrate(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A bundle's folder; its bundle.json is changed.")
    ],
    *,
    images: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Frames like those that the bundle will see: a folder of pictures or a video.",
        ),
    ],
    annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What is in the pictures of --images, in COCO's instances format: calibrate "
            "nothing, but measure the AP of each latent rate.",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"How many frames to use, spread evenly over the source; {CALIBRATION_FRAMES} if "
            "left out. With --annotations: the pictures with the lowest ids, all if left out.",
        ),
    ] = None,
    codec: Annotated[
        Codec | None,
        typer.Option(metavar="NAME", help="Make this codec the bundle's default."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"What runs the backbone: {_DEFAULT_ENGINE} if left out, openvino, ...",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure a bundle's features on real frames, for the codecs q6 to q2 and the latent ones.

    Ranges are written into bundle.json. If the bundle has a bottleneck and the source is a video,
    latent_tables.json is written as well. The bundle's digest changes with it, so give every node
    the new files and have its stages change over (tandem model deploy), or restart them.

    With --annotations, what is calibrated stays as it is. Each latent rate's AP on these pictures
    is measured, through local nodes, and written beside its bytes, for the choice of the rate.
    """
    if annotations is not None:
        for name, given in (("--codec", codec), ("--engine", engine)):
            if given is not None:
                raise typer.BadParameter(
                    "it is for calibrating, and --annotations only measure", param_hint=name
                )
        _measure(folder, images, annotations, frames, as_json=json)
        return
    frames = frames or CALIBRATION_FRAMES
    with closing(open_source(images)) as source:
        available = source.info.frame_count
        total = min(frames, available) if available else frames
        with frame_progress(f"calibrating {folder}", total, visible=not json) as advance:
            calibrated = calibrate_bundle(
                *(folder, source, frames),
                default=codec,
                engine=engine or _DEFAULT_ENGINE,
                advance=advance,
            )
    if json:
        show_json(calibration_to_json(calibrated))
    else:
        show_table(_calibration_table(calibrated))
        show_line(f"{folder}: default codec {calibrated.bundle.manifest.codec.default}")
        _show_digest(calibrated.bundle)


def _measure(
    folder: Path, images: str, annotations: Path, limit: int | None, *, as_json: bool
) -> None:
    """Measure the AP of every latent rate, and write it into the bundle."""
    try:
        from tandem.evaluation.picture_set import category_names, open_picture_set
        from tandem.evaluation.rates import calibrated_bottleneck, measure_rates, write_precision
    except ModuleNotFoundError as error:
        raise missing_extra(error, "evaluate") from error
    bundle = load_bundle(folder)
    bundle.check_files()
    calibrated_bottleneck(bundle)
    if not Path(images).is_dir():
        raise ConfigurationError(f"--annotations are of pictures, and {images} is no folder")
    names = category_names(bundle)
    pictures = open_picture_set(Path(images), annotations, limit, model=names, say=show_notice)
    figures = run(measure_rates(bundle, pictures, visible=not as_json))
    measured = write_precision(bundle, figures)
    if as_json:
        show_json(rates_to_json(measured, len(pictures.pictures)))
    else:
        show_table(_rates_table(measured))
        _show_digest(measured)


def _show_digest(bundle: Bundle) -> None:
    show_line(f"new digest {bundle.digest}: every node needs this bundle.json")


def calibration_to_json(calibrated: CalibratedBundle) -> dict[str, Any]:
    """The bundle's new digest, and what each codec makes of its features."""
    codec = calibrated.bundle.manifest.codec
    return {
        "folder": str(calibrated.bundle.folder),
        "digest": calibrated.bundle.digest,
        "frames": codec.calibration.frames if codec.calibration else 0,
        "default": codec.default,
        "codecs": [
            {
                "codec": trial.codec.value,
                "clip": trial.clip,
                "bytes_per_frame": round(trial.bytes_per_frame),
                "relative_error": round(trial.relative_error, 5),
            }
            for trial in calibrated.trials
        ],
    }


def _calibration_table(calibrated: CalibratedBundle) -> Table:
    table = Table("codec")
    for heading in ("range in standard deviations", "bytes a frame", "relative error"):
        table.add_column(heading, justify="right")
    for trial in calibrated.trials:
        clip = f"+-{trial.clip:g}" if trial.clip is not None else ""
        error = f"{trial.relative_error:.2%}"
        table.add_row(trial.codec.value, clip, f"{trial.bytes_per_frame:,.0f}", error)
    return table


def rates_to_json(bundle: Bundle, pictures: int) -> dict[str, Any]:
    """The bundle's new digest, and what each latent rate keeps and costs."""
    return {
        "folder": str(bundle.folder),
        "digest": bundle.digest,
        "frames": pictures,
        "rates": [
            {"codec": name, **measured.model_dump()} for name, measured in _measurements(bundle)
        ],
    }


def _rates_table(bundle: Bundle) -> Table:
    table = Table("codec")
    for heading in ("AP", "bytes a frame", "bytes a key frame"):
        table.add_column(heading, justify="right")
    for name, measured in _measurements(bundle):
        precision = measured.average_precision or 0.0
        sizes = (measured.bytes_per_frame, measured.bytes_per_key_frame)
        table.add_row(name, f"{precision:.4f}", *(f"{size:,.0f}" for size in sizes))
    return table


def _measurements(bundle: Bundle) -> Iterator[tuple[str, RateMeasurement]]:
    bottleneck = bundle.manifest.bottleneck
    rates = {} if bottleneck is None else bottleneck.rates
    for codec in LATENT_CODECS if rates else ():
        measured = rates[codec.value].measured
        if measured is not None:
            yield codec.value, measured
