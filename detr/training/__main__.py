"""`python -m detr.training`: turn a run into a shipped bundle, and rebuild it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.domain.errors import ConfigurationError
from detr.errors import run_app
from detr.training.command_options import CacheOption
from detr.training.data import EvaluationSplit, evaluation_folder
from detr.training.folder import write_folder
from detr.training.release import (
    add_figures,
    calibration_pictures,
    rebuild,
    release,
    shipped_records,
)
from detr.training.score_shift import measured_shift

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

MODELS = Path("models")
RECORDS = MODELS / "records"
_RELEASE_SPLITS: tuple[EvaluationSplit, ...] = ("val", "unseen")


@app.command("release")
def release_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="checkpoint.pt, average.pt or best.pt of a run.")
    ],
    *,
    commit: Annotated[str, typer.Option(help="Of the code that trained.")],
    machine: Annotated[
        str | None, typer.Option(help="What it was trained on, in words, for the record.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of the bundle; models/NAME by default.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder of weights, curve and record; models/records/NAME by default."),
    ] = None,
    score_shift: Annotated[
        float | None,
        typer.Option(help="Instead of the recipe's, as `score-shift` measured it."),
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Export a run, evaluate torch and ONNX on the validation and the unseen-artwork scenes."""
    recipe, pictures = calibration_pictures(checkpoint, cache)
    record = record or RECORDS / recipe.name
    bundle = bundle or MODELS / recipe.name
    if score_shift is not None and recipe.family == "detr":
        raise ConfigurationError("a DETR has a no_object_shift in its recipe, and no score shift.")
    released = release(
        checkpoint, bundle, record, commit, pictures, machine=machine, score_shift=score_shift
    )
    typer.echo(f"{released.bundle.folder}: digest {released.bundle.digest}")
    for split in _RELEASE_SPLITS:
        folder = evaluation_folder(released.recipe, cache, split)
        for engine, figures in add_figures(released, record, split, folder).items():
            typer.echo(f"{split:7} {engine:6} AP {figures['AP']:.4f}  AP50 {figures['AP50']:.4f}")


@app.command("folder")
def folder_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="checkpoint.pt, average.pt or best.pt of a run.")
    ],
    out: Annotated[Path, typer.Argument(help="The folder; a new one.")],
    *,
    cache: CacheOption = None,
) -> None:
    """Write a run's model as a Hugging Face folder, which `tandem model import` takes."""
    write_folder(checkpoint, out, cache)
    typer.echo(f"{out}: `tandem model import {out}` makes a bundle of it")


@app.command("score-shift")
def score_shift_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="checkpoint.pt, average.pt or best.pt of a run.")
    ],
    *,
    cache: CacheOption = None,
) -> None:
    """Measure the recipe's `score_shift` on the run's evaluation pictures, for sigmoid scores."""
    typer.echo(f"score_shift: {measured_shift(checkpoint, cache):.2f}")


@app.command("rebuild")
def rebuild_command(
    record: Annotated[
        Path | None, typer.Option(help="Folder of one record; all that ship by default.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Where to put one record's; compared and dropped by default."),
    ] = None,
) -> None:
    """Build bundles from their records' weights and check that they are the shipped ones."""
    if bundle is not None and record is None:
        raise ConfigurationError("--bundle is for one record: name it by --record.")
    for folder in [record] if record else shipped_records(RECORDS):
        rebuild(folder, bundle)
        typer.echo(f"{folder}: the rebuilt bundle has the recorded digest")


if __name__ == "__main__":
    run_app(app, "python -m detr.training")
