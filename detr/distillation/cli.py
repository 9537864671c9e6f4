"""The command `tandem distill`."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from common.domain.errors import ConfigurationError
from detr.distillation.d_fine_recipe import DFineDistillationRecipe, d_fine_run_recipe
from detr.distillation.recipe import (
    DistillationRecipe,
    Method,
    load_distillation_recipe,
    run_recipe,
)
from detr.distillation.tasks import make_task
from detr.distillation.teacher import Teacher, check_class_count, check_classes, load_teacher
from detr.errors import run_app
from detr.training.batches import Batch
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
from detr.training.data import training_batches
from detr.training.loop import train
from detr.training.recipe import Recipe, ScenesData, with_precision
from detr.training.rehearsal import rehearse
from detr.training.task import Task

app = typer.Typer(help="Distillation.", add_completion=False, pretty_exceptions_enable=False)


@app.command("distill")
def distill_command(
    *,
    recipe: Annotated[
        str, typer.Option(help="Name of a shipped distillation recipe, or a YAML file.")
    ] = "demo-r50-r34",
    method: Annotated[
        Literal["stages", "joint"],
        typer.Option(help="Stage by stage, or all losses at once through the transformer."),
    ] = "joint",
    encoder_layers: Annotated[
        int | None,
        typer.Option(min=1, help="Keep the backbone and shorten the encoder to N layers instead."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Checkpoint, weights, record or bundle; the recipe's by default."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/RECIPE-METHOD by default.")
    ] = None,
    resume: ResumeOption = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, in place of the recipe's.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of steps, in place of the recipe's; schedules are stretched to it."
        ),
    ] = None,
    cache: CacheOption = None,
    workers: WorkersOption = None,
    threads: ThreadsOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = None,
    minutes: MinutesOption = None,
    compiled: CompileOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Make a smaller model from a trained one. Run under torchrun to use several processes."""
    chosen = load_distillation_recipe(recipe)
    kind: Method = method if encoder_layers is None else "encoder"
    if isinstance(chosen, DFineDistillationRecipe):
        run, make = _d_fine_run(chosen, kind, teacher, seed, steps)
    else:
        trained = _open_teacher(chosen, teacher)
        run = run_recipe(
            chosen,
            kind,
            trained.identity,
            trained.parts,
            names=trained.names,
            encoder_layers=encoder_layers,
            seed=seed,
            steps=steps,
        )
        make = functools.partial(make_task, teacher=trained)
    run = with_precision(run, precision)
    folder = output or Path("runs") / f"{chosen.name}-{kind}"
    with prepared_surroundings(
        run,
        folder,
        cache=cache,
        resume=resume,
        workers=workers,
        threads=threads,
        device=device,
        minutes=minutes,
        compiled=compiled,
    ) as surroundings:
        task = make(
            run,
            first_batches=lambda count: itertools.islice(_full_size_batches(run, cache), count),
        )
        if dry_run:
            typer.echo(rehearse(run, surroundings, task).text())
        else:
            train(run, surroundings, task)


def _d_fine_run(
    recipe: DFineDistillationRecipe,
    method: Method,
    given: Path | None,
    seed: int | None,
    steps: int | None,
) -> tuple[Recipe, Callable[..., Task]]:
    """Return the run of a D-FINE, and what makes its task of it."""
    from detr.distillation.d_fine_task import DFineDistillationTask
    from detr.distillation.d_fine_teacher import load_d_fine_teacher

    if method != "joint":
        raise ConfigurationError(
            f"recipe {recipe.name} distils a {recipe.family}, for which there is the method joint "
            "only."
        )
    trained = load_d_fine_teacher(_teacher_path(recipe, given))
    check_class_count(trained.identity.name, trained.model.config.num_labels, recipe.data)
    run = d_fine_run_recipe(recipe, trained.identity, names=trained.names, seed=seed, steps=steps)
    return run, functools.partial(DFineDistillationTask, teacher=trained)


def _full_size_batches(run: Recipe, cache: Path | None) -> Iterator[Batch]:
    """Yield batches of the size that the model will have to do with."""
    first = run.data.early_steps if isinstance(run.data, ScenesData) else 0
    return training_batches(run, cache, first, workers=0)


def _open_teacher(recipe: DistillationRecipe, given: Path | None) -> Teacher:
    teacher = load_teacher(_teacher_path(recipe, given), _say)
    check_classes(teacher, recipe.data)
    return teacher


def _teacher_path(recipe: DistillationRecipe | DFineDistillationRecipe, given: Path | None) -> Path:
    path = given or recipe.teacher
    if path is None:
        raise ConfigurationError(f"recipe {recipe.name} names no teacher: give --teacher.")
    return path


def _say(text: str) -> None:
    """Print a sentence to stderr, once even if several processes run."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(text, err=True)


def main() -> None:
    """Run the command by itself, as torchrun does with `-m detr.distillation.cli`."""
    run_app(app, "tandem distill")


if __name__ == "__main__":
    main()
