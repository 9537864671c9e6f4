"""What the commands that train share: their options, and what surrounds a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from detr.training.checkpoints import CHECKPOINT_NAME, load_checkpoint
from detr.training.display import Display
from detr.training.distributed import barrier, process_group, rank, world_size
from detr.training.loop import Surroundings
from detr.training.metrics import CURVE_NAME, METRICS_NAME
from detr.training.recipe import Recipe, ScenesData
from scenes.fetch import fetch_all

ResumeOption = Annotated[bool, typer.Option(help="Continue the run in the output folder.")]
CacheOption = Annotated[Path, typer.Option(help="Folder of fetched artwork and photographs.")]
WorkersOption = Annotated[
    int, typer.Option(min=0, help="Processes that prepare images, per training process.")
]
ThreadsOption = Annotated[
    int, typer.Option(min=0, help="Threads of each training process; 0: share the cores.")
]


def _sayer(console: Console) -> Callable[[str], None]:
    """Sentences hold paths and names, which are no markup."""
    return lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def training_session(
    recipe: Recipe, folder: Path, *, cache: Path, resume: bool, workers: int, threads: int
) -> Iterator[Surroundings]:
    """Set up processes, threads, scenes and display for one run; tells at its end what it left.

    Args:
        recipe: of the run.
        folder: of the run.
        cache: folder of fetched artwork and photographs; filled if the recipe needs it.
        resume: go on from the checkpoint in `folder`.
        workers: processes that prepare images, for each training process.
        threads: of each training process; 0: share the cores.
    """
    with process_group():
        share = max(1, (os.cpu_count() or 1) // world_size())
        torch.set_num_threads(threads or share)
        console = Console(stderr=True, quiet=rank() > 0)
        if isinstance(recipe.data, ScenesData) and rank() == 0:
            fetch_all(cache, console.print)
        barrier()
        with Display(console, recipe.batch_size, recipe.steps) as display:
            done = folder / CHECKPOINT_NAME
            if resume and done.exists():
                display.start_at(load_checkpoint(done)["step"])
            yield Surroundings(folder, cache, resume, workers, display.show, _sayer(console))
        left = ", ".join(str(folder / name) for name in (CHECKPOINT_NAME, METRICS_NAME, CURVE_NAME))
        console.print(f"finished: {left}")
