"""What people see: results on standard output, progress on standard error, on a terminal only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from common.domain.detections import Detection
from common.domain.redaction import fit_to_show, masked_value
from tandem.results import FrameResult


def kilobytes(count: float) -> str:
    """A size in kilobytes, with as many digits as tell small ones apart."""
    return f"{count / 1000:.1f}" if count >= 1000 else f"{count / 1000:.3f}"


def show_line(text: str) -> None:
    """Print a line for people, on standard output, at once."""
    sys.stdout.write(fit_to_show(text) + "\n")
    sys.stdout.flush()


def show_notice(text: str) -> None:
    """Tell people something on standard error, at once, while the work goes on."""
    # A progress bar on the same terminal is moved out of the way by rich.
    sys.stderr.write(f"tandem: {fit_to_show(text)}\n")
    sys.stderr.flush()


def show_warning(text: str) -> None:
    """Print a line of what is insecure, on standard output, among what is told beside it."""
    Console(markup=False, highlight=False, soft_wrap=True).print(
        Text(f"insecure: {fit_to_show(text)}", style="yellow")
    )


def show_table(table: Table) -> None:
    """Print a table for people, on standard output."""
    for column in table.columns:
        column._cells[:] = [_fit_cell(cell) for cell in column.cells]
    # A pipe has no width of its own, and a wrapped table is hard to read or to search.
    width = None if sys.stdout.isatty() else 160
    Console(markup=False, highlight=False, width=width).print(table)


def show_json(value: Any) -> None:
    """Print one line of JSON on standard output, at once."""
    sys.stdout.write(json_line(value) + "\n")
    sys.stdout.flush()


def json_line(value: Any) -> str:
    """JSON in ASCII without line ends, and without secrets.

    Control characters stand as JSON escapes them, so that a program reads what was there; it leaves
    out but one, DEL.
    """
    return json.dumps(masked_value(value)).replace("\x7f", "\\u007f")


def _fit_cell(cell: RenderableType) -> RenderableType:
    if isinstance(cell, str):
        return fit_to_show(cell)
    if isinstance(cell, Text):
        return Text(fit_to_show(cell.plain), style=cell.style)
    return cell


@contextmanager
def activity(text: str) -> Iterator[None]:
    """Tell what goes on, while it does."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(fit_to_show(text))):
        yield


@contextmanager
def frame_progress(
    text: str, total: int | None, visible: bool = True
) -> Iterator[Callable[[], None]]:
    """A bar of frames on standard error; yields what moves it on by one.

    Args:
        text: what goes on.
        total: frames, if known.
        visible: False: no bar, even on a terminal.
    """
    console = Console(stderr=True)
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (visible and console.is_terminal),
    )
    with progress:
        task = progress.add_task(fit_to_show(text), total=total)
        yield lambda: progress.advance(task)


def sentence(name: str, result: FrameResult) -> str:
    """One frame's result in a line."""
    if result.error is not None:
        return f"{name}: {result.error}"
    if result.dropped:
        return f"{name}: dropped"
    objects = ", ".join(
        f"{_name(one)} {one.score:.0%} at "
        f"{one.box.x_min:.0f},{one.box.y_min:.0f}-{one.box.x_max:.0f},{one.box.y_max:.0f}"
        for one in result.detections
    )
    return f"{name}: {objects or 'nothing'}"


def _name(detection: Detection) -> str:
    number = "" if detection.track_id is None else f" #{detection.track_id}"
    return f"{detection.category_name}{number}"
