"""The options that commands which train share, the surroundings of a run, and its display."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from detr.training.checkpoints import CHECKPOINT_NAME, load_checkpoint
from detr.training.data import require_scenes
from detr.training.loop import Surroundings
from detr.training.metrics import CURVE_NAME, METRICS_NAME, MetricsRow
from detr.training.processes import (
    DeviceChoice,
    barrier,
    choose_device,
    process_group,
    rank,
    world_size,
)
from detr.training.recipe import Recipe, ScenesData


class Display:
    """A progress bar with the time remaining; plain lines where there is no terminal."""

    def __init__(self, console: Console, batch_size: int, steps: int) -> None:
        self.console = console
        self.batch_size = batch_size
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            # The speed of the last few minutes tells more than that of the last seconds.
            speed_estimate_period=300,
        )
        self.task = self.progress.add_task("training", total=steps)
        self.last = (0, 0.0)

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def start_at(self, step: int) -> None:
        """Begin at a resumed run's step."""
        self.progress.update(self.task, completed=step)

    def show(self, row: MetricsRow, steps: int) -> None:
        """Show one logged line."""
        done, seconds = self.last
        speed = (row.step - done) / max(row.seconds - seconds, 1e-9)
        self.last = (row.step, row.seconds)
        text = f"loss {row.loss:.3f}  {speed * self.batch_size:.0f} images/s"
        self.progress.update(self.task, completed=row.step, description=text)
        if row.ap is not None:
            self.console.print(f"step {row.step}: AP {row.ap:.3f}, AP50 {row.ap50:.3f}, {text}")
        elif not self.console.is_terminal and row.step % 100 == 0:
            remaining = (steps - row.step) / speed / 60
            self.console.print(f"step {row.step}/{steps}: {text}, {remaining:.0f} min remain")


ResumeOption = Annotated[bool, typer.Option(help="Continue the run in the output folder.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of fetched artwork and photographs. [default: cache/scenes]",
        show_default=False,
    ),
]
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
    """Return what prints a sentence as it is: paths and names in it are no markup."""
    return lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def prepared_surroundings(
    recipe: Recipe,
    folder: Path,
    *,
    cache: Path | None,
    resume: bool,
    workers: int | None,
    threads: int,
    device: DeviceChoice = "auto",
    minutes: float | None = None,
    compiled: bool = False,
) -> Iterator[Surroundings]:
    """Set up processes, threads, scenes and display for one run; at its end, print what it left.

    Args:
        recipe: the run's recipe.
        folder: the run's folder.
        cache: folder of fetched artwork and photographs, filled if the recipe needs it; None: the
            default one.
        resume: go on from the checkpoint in `folder`.
        workers: processes that prepare images, for each training process; None: one beside a
            CPU that trains, and all cores but one beside a GPU.
        threads: how many each training process has; 0: share the cores.
        device: the device to compute on.
        minutes: how long to train, instead of the recipe's steps.
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
            require_scenes()
            from detr.training.scene_data import fetch_scenes

            fetch_scenes(cache, console.print)
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
