"""What a run shows while it goes on."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from detr.training.metrics import MetricsRow


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
