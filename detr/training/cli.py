"""`tandem train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detr.command import run_app
from detr.training.loop import train
from detr.training.recipe import load_recipe
from detr.training.session import (
    CacheOption,
    ResumeOption,
    ThreadsOption,
    WorkersOption,
    training_session,
)
from scenes.fetch import DEFAULT_CACHE

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
    cache: CacheOption = DEFAULT_CACHE,
    workers: WorkersOption = 1,
    threads: ThreadsOption = 0,
) -> None:
    """Train a model by a recipe. Run under torchrun to use several processes."""
    chosen = load_recipe(recipe)
    folder = output or Path("runs") / chosen.name
    with training_session(
        chosen, folder, cache=cache, resume=resume, workers=workers, threads=threads
    ) as surroundings:
        train(chosen, surroundings)


def main() -> None:
    """Run the command by itself, as torchrun does with `-m detr.training.cli`."""
    run_app(app, "tandem train")


if __name__ == "__main__":
    main()
