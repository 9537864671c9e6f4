"""The commands `tandem bottleneck train` and `tandem bottleneck export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.domain.errors import ConfigurationError
from detr.bottleneck.export import add_bottleneck, load_run
from detr.bottleneck.recipe import BottleneckRecipe, load_bottleneck_recipe
from detr.bottleneck.training import train_bottleneck
from detr.distillation.teacher import Teacher, check_classes, load_teacher
from detr.errors import run_app
from detr.training.command_options import (
    CacheOption,
    DeviceOption,
    ResumeOption,
    ThreadsOption,
    WorkersOption,
    prepared_surroundings,
)

app = typer.Typer(
    help="The learned bottleneck between the halves.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _bottleneck() -> None:
    """Train a bottleneck, and put it into a bundle."""


@app.command("train")
def train_command(
    *,
    recipe: Annotated[
        str, typer.Option(help="Name of a shipped bottleneck recipe, or a YAML file.")
    ] = "demo-r50",
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="The model: checkpoint, weights, record or bundle; the recipe's by default."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/RECIPE-bottleneck by default.")
    ] = None,
    resume: ResumeOption = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Number of steps, in place of the recipe's.")
    ] = None,
    cache: CacheOption = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = 0,
    device: DeviceOption = "auto",
) -> None:
    """Train encoder and decoder behind a model's cut; the model itself stays as it is."""
    chosen = load_bottleneck_recipe(recipe)
    if steps is not None:
        chosen = chosen.model_copy(update={"steps": steps})
    model = _open_model(chosen, teacher)
    run = chosen.training_recipe(model.identity)
    folder = output or Path("runs") / f"{chosen.name}-bottleneck"
    with prepared_surroundings(
        run,
        folder,
        cache=cache,
        resume=resume,
        workers=workers,
        threads=threads,
        device=device,
    ) as surroundings:
        train_bottleneck(chosen, model, surroundings)


@app.command("export")
def export_command(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    *,
    bundle: Annotated[Path, typer.Option(help="Bundle of the model that it was trained for.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
) -> None:
    """Copy a bundle and put a trained bottleneck into the copy; calibrate that next."""
    exported = add_bottleneck(load_run(run), bundle, out)
    typer.echo(
        f"{out}: bottleneck of {exported.channels} channels; its parts differ from torch by at "
        f"most {exported.max_difference:.1e}. Next: tandem model calibrate {out} --images ..."
    )


def _open_model(recipe: BottleneckRecipe, given: Path | None) -> Teacher:
    path = given or recipe.teacher
    if path is None:
        raise ConfigurationError(f"recipe {recipe.name} names no model: give --teacher.")
    teacher = load_teacher(path, lambda text: typer.echo(text, err=True))
    check_classes(teacher, recipe.data)
    return teacher


def main() -> None:
    """Run the command by itself, as torchrun does with `-m detr.bottleneck.cli`."""
    run_app(app, "tandem bottleneck")


if __name__ == "__main__":
    main()
