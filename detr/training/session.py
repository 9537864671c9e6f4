"""What the commands that train share: their options, and what surrounds a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console

from detr.training.checkpoints import CHECKPOINT_NAME, load_checkpoint
from detr.training.device import DeviceChoice, choose_device
from detr.training.display import Display
from detr.training.distributed import barrier, process_group, rank, world_size
from detr.training.loop import Surroundings
from detr.training.metrics import CURVE_NAME, METRICS_NAME
from detr.training.recipe import Recipe, ScenesData
from scenes.fetch import fetch_all

ResumeOption = Annotated[bool, typer.Option(help="Continue the run in the output folder.")]
CacheOption = Annotated[Path, typer.Option(help="Folder of fetched artwork and photographs.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that prepare images, per training process. [default: 1, and all cores but "
        "one beside a GPU]",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    DeviceChoice, typer.Option(help="What to compute on; auto is a GPU if there is one.")
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16", "fp16"] | None,
    typer.Option(help="What the model computes in, instead of the recipe's; fp16 on a GPU only."),
]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        help="Train for so long instead of the recipe's steps; its schedule is stretched.",
    ),
]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="Compile the model first; for long runs on a GPU.")
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check recipe and data, do a few steps, tell memory and time; leave nothing.",
    ),
]
ThreadsOption = Annotated[
    int, typer.Option(min=0, help="Threads of each training process; 0: share the cores.")
]


def _sayer(console: Console) -> Callable[[str], None]:
    """Sentences hold paths and names, which are no markup."""
    return lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def training_session(
    recipe: Recipe,
    folder: Path,
    *,
    cache: Path,
    resume: bool,
    workers: int | None,
    threads: int,
    device: DeviceChoice = "auto",
    minutes: float | None = None,
    compiled: bool = False,
) -> Iterator[Surroundings]:
    """Set up processes, threads, scenes and display for one run; tells at its end what it left.

    Args:
        recipe: of the run.
        folder: of the run.
        cache: folder of fetched artwork and photographs; filled if the recipe needs it.
        resume: go on from the checkpoint in `folder`.
        workers: processes that prepare images, for each training process; None: one beside a
            CPU that trains, and all cores but one beside a GPU.
        threads: of each training process; 0: share the cores.
        device: what to compute on.
        minutes: to train for, instead of the recipe's steps.
        compiled: compile the model first.
    """
    chosen = choose_device(device)
    with process_group(chosen):
        share = max(1, (os.cpu_count() or 1) // world_size())
        if workers is None:
            workers = max(1, share - 1) if chosen.type == "cuda" else 1
        torch.set_num_threads(threads or share)
        console = Console(stderr=True, quiet=rank() > 0)
        if isinstance(recipe.data, ScenesData) and rank() == 0:
            fetch_all(cache, console.print)
        barrier()
        with Display(console, recipe.batch_size, recipe.steps) as display:
            done = folder / CHECKPOINT_NAME
            if resume and done.exists():
                display.start_at(load_checkpoint(done)["step"])
            yield Surroundings(
                folder,
                cache,
                resume,
                workers,
                display.show,
                _sayer(console),
                device=chosen,
                minutes=minutes,
                compiled=compiled,
            )
        made = [folder / name for name in (CHECKPOINT_NAME, METRICS_NAME, CURVE_NAME)]
        left = ", ".join(str(path) for path in made if path.exists())
        if left:
            console.print(f"finished: {left}")
