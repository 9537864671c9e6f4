"""`tandem train`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from common.domain.errors import TandemError
from detr.scenes.fetch import DEFAULT_CACHE, fetch_all
from detr.training.checkpoints import CHECKPOINT_NAME, load_checkpoint
from detr.training.display import Display
from detr.training.distributed import process_group, rank, world_size
from detr.training.loop import Surroundings, train
from detr.training.recipe import ScenesData, load_recipe

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
    resume: Annotated[bool, typer.Option(help="Continue the run in the output folder.")] = False,
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
    """Train a model by a recipe. Run under torchrun to use several processes."""
    chosen = load_recipe(recipe)
    with process_group():
        share = max(1, (os.cpu_count() or 1) // world_size())
        torch.set_num_threads(threads or share)
        console = Console(stderr=True, quiet=rank() > 0)
        if isinstance(chosen.data, ScenesData) and rank() == 0:
            fetch_all(cache, console.print)
        folder = output or Path("runs") / chosen.name
        with Display(console, chosen.batch_size, chosen.steps) as display:
            done = folder / CHECKPOINT_NAME
            if resume and done.exists():
                display.start_at(load_checkpoint(done)["step"])
            surroundings = Surroundings(folder, cache, resume, workers, display.show)
            checkpoint = train(chosen, surroundings)
        console.print(f"finished: {checkpoint}, {folder}/metrics.csv, {folder}/curve.png")


def main() -> None:
    """Run the command by itself, as torchrun does with `-m detr.training.cli`."""
    try:
        app()
    except TandemError as error:
        sys.stderr.write(f"tandem train: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
