"""`tandem distill`."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console

from common.domain.errors import ConfigurationError, TandemError
from detr.distillation.recipe import (
    DistillationRecipe,
    Method,
    load_distillation_recipe,
    run_recipe,
)
from detr.distillation.tasks import make_task
from detr.distillation.teacher import Teacher, check_classes, load_teacher
from detr.scenes.fetch import DEFAULT_CACHE, fetch_all
from detr.training.checkpoints import CHECKPOINT_NAME, load_checkpoint
from detr.training.data import training_batches
from detr.training.display import Display
from detr.training.distributed import barrier, process_group, rank, world_size
from detr.training.loop import Surroundings, train
from detr.training.recipe import Recipe, ScenesData
from detr.training.targets import Batch

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
    resume: Annotated[bool, typer.Option(help="Continue the run in the output folder.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Instead of the recipe's; all schedules follow.")
    ] = None,
    cache: Annotated[
        Path, typer.Option(help="Folder of fetched artwork and photographs.")
    ] = DEFAULT_CACHE,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that prepare images, per training process.")
    ] = 1,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of each training process; 0: share the cores.")
    ] = 0,
) -> None:
    """Make a smaller model from a trained one. Run under torchrun to use several processes."""
    chosen = load_distillation_recipe(recipe)
    trained = _open_teacher(chosen, teacher)
    kind: Method = method if encoder_layers is None else "encoder"
    run = run_recipe(
        chosen,
        kind,
        trained.identity,
        trained.parts,
        encoder_layers=encoder_layers,
        seed=seed,
        steps=steps,
    )
    with process_group():
        share = max(1, (os.cpu_count() or 1) // world_size())
        torch.set_num_threads(threads or share)
        console = Console(stderr=True, quiet=rank() > 0)
        if isinstance(run.data, ScenesData) and rank() == 0:
            fetch_all(cache, console.print)
        barrier()
        folder = output or Path("runs") / f"{chosen.name}-{kind}"
        with Display(console, run.batch_size, run.steps) as display:
            done = folder / CHECKPOINT_NAME
            if resume and done.exists():
                display.start_at(load_checkpoint(done)["step"])
            surroundings = Surroundings(folder, cache, resume, workers, display.show)
            task = make_task(
                run,
                trained,
                lambda count: itertools.islice(_full_size_batches(run, cache), count),
            )
            checkpoint = train(run, surroundings, task)
        console.print(f"finished: {checkpoint}, {folder}/metrics.csv, {folder}/curve.png")


def _full_size_batches(run: Recipe, cache: Path) -> Iterator[Batch]:
    """Yield batches of the size that the model will have to do with."""
    first = run.data.early_steps if isinstance(run.data, ScenesData) else 0
    return training_batches(run, cache, first, workers=0)


def _open_teacher(recipe: DistillationRecipe, given: Path | None) -> Teacher:
    path = given or recipe.teacher
    if path is None:
        raise ConfigurationError(f"recipe {recipe.name} names no teacher: give --teacher.")
    teacher = load_teacher(path)
    check_classes(teacher, recipe.data)
    return teacher


def main() -> None:
    """Run the command by itself, as torchrun does with `-m detr.distillation.cli`."""
    try:
        app()
    except TandemError as error:
        sys.stderr.write(f"tandem distill: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
