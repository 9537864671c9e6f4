"""The command `tandem train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detr.errors import run_app
from detr.training.checkpoints import CHECKPOINT_NAME
from detr.training.command_options import (
    CacheOption,
    CompileOption,
    DeviceOption,
    DryRunOption,
    MinutesOption,
    PrecisionOption,
    ResumeOption,
    ThreadsOption,
    WorkersOption,
    prepared_surroundings,
)
from detr.training.d_fine_model import completed
from detr.training.loop import train
from detr.training.recipe import load_recipe, with_precision
from detr.training.rehearsal import rehearse

app = typer.Typer(help="Training.", add_completion=False, pretty_exceptions_enable=False)


@app.command("train")
def train_command(
    *,
    recipe: Annotated[
        str, typer.Option(help="Name of a shipped recipe, or a YAML file.")
    ] = "demo-r50",
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/RECIPE by default.")
    ] = None,
    resume: ResumeOption = False,
    cache: CacheOption = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = None,
    minutes: MinutesOption = None,
    compiled: CompileOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Train a model by a recipe. Run under torchrun to use several processes."""
    read = load_recipe(recipe)
    folder = output or Path("runs") / read.name
    checkpoint = folder / CHECKPOINT_NAME if resume else None
    chosen = with_precision(completed(read, checkpoint), precision)
    with prepared_surroundings(
        chosen,
        folder,
        cache=cache,
        resume=resume,
        workers=workers,
        threads=threads,
        device=device,
        minutes=minutes,
        compiled=compiled,
    ) as surroundings:
        if dry_run:
            typer.echo(rehearse(chosen, surroundings).text())
        else:
            train(chosen, surroundings)


def main() -> None:
    """Run the command by itself, as torchrun does with `-m detr.training.cli`."""
    run_app(app, "tandem train")


if __name__ == "__main__":
    main()
