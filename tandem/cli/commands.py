"""Commands that need more than `tandem` itself does, such as torch.

Their modules are imported when they are run, not when `tandem --help` lists them. Other packages
add theirs as entry points of the group `tandem.commands`: objects with the attributes of `Command`,
in modules that are quick to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand

from common.domain.errors import ConfigurationError

ENTRY_POINT_GROUP = "tandem.commands"


@dataclass(frozen=True)
class Command:
    """A command that is loaded when it is run.

    Attributes:
        path: its words on the command line behind `tandem`, such as `model import`.
        summary: a sentence for the list of commands.
        load: imports the Typer application that has the command under the last word of `path`.
        extra: the optional dependencies of this project that it needs.
    """

    path: str
    summary: str
    load: Callable[[], typer.Typer]
    extra: str


class LazyCommand(TyperCommand):
    """Stands for a command of another module's Typer application until it is run."""

    def __init__(self, command: Command) -> None:
        """Stand for this one."""
        self._name = command.path.split()[-1]
        super().__init__(self._name, help=command.summary, short_help=command.summary)
        self._command = command

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> Any:
        """Hand over to the real command, which parses its own command line."""
        return self._load().make_context(info_name, args, *rest, **more)

    def _load(self) -> Any:
        try:
            app = self._command.load()
        except ModuleNotFoundError as error:
            extra = self._command.extra
            raise ConfigurationError(
                f"this command needs {error.name}, which is not installed: run "
                f"pip install 'tandem-detr[{extra}]', or, in Tandem's folder, "
                f"pip install -e '.[{extra}]'"
            ) from error
        return typer.main.get_group(app).commands[self._name]


def lazy_commands() -> Iterator[Command]:
    """Ours, and those that the installed packages add, by the names of their entry points."""
    yield Command(
        "evaluate", "Measure COCO AP through running services.", _evaluation_app, "evaluate"
    )
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        yield point.load()


def _evaluation_app() -> typer.Typer:
    from tandem.evaluation.cli import app

    return app
