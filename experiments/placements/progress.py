"""How far the experiment is, and how long it will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from experiments.placements.cases import Run, remaining_seconds


class Progress:
    """A bar for all runs and one for the frames of the run under way; lines without a terminal."""

    def __init__(self, runs: Sequence[Run], taken: Mapping[Run, float]) -> None:
        """Show `runs`, of which those in `taken` are finished, each with its seconds."""
        self._left = [run for run in runs if run not in taken]
        self._taken = dict(taken)
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        self._all = self._bars.add_task("runs", total=len(runs), completed=len(taken), note="")
        self._frames = self._bars.add_task("frames", total=None, note="")

    def __enter__(self) -> Self:
        """Begin to show."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def begin(self, run: Run, frames: int) -> None:
        """A run of this many frames begins."""
        self._bars.reset(self._frames, total=frames, description=run.name)

    def advance(self) -> None:
        """A frame was answered."""
        self._bars.advance(self._frames)

    def end(self, run: Run, seconds: float) -> None:
        """The run is finished and written."""
        self._taken[run] = seconds
        self._left.remove(run)
        remaining = remaining_seconds(self._left, self._taken) or 0.0
        note = f"about {timedelta(seconds=round(remaining))} left"
        self._bars.update(self._all, advance=1, note=note)
        self._console.print(
            f"{run.name}: {seconds:.1f} s; runs left: {len(self._left)}, {note}", highlight=False
        )
