"""The commands of `tandem`, by name: what they need is imported when they are run.

So `tandem --help` is quick, and a command that needs torch does no harm where torch is not. Other
packages add theirs as entry points of the group `tandem.commands`: objects with the attributes of
`Command`, in modules that are quick to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import typer
import typer.main
from rich.markup import escape
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
        try:
            command = self._load()
        except ConfigurationError as error:
            if not {"-h", "--help"} & set(args):
                raise
            # Who asks whether to install that much learns what the command is for.
            self.epilog = escape(f"Its options cannot be shown: {error}")
            return super().make_context(info_name, ["--help"], *rest, **more)
        return command.make_context(info_name, args, *rest, **more)

    def _load(self) -> Any:
        try:
            app = self._command.load()
        except ModuleNotFoundError as error:
            raise missing_extra(error, self._command.extra) from error
        return typer.main.get_group(app).commands[self._name]


def missing_extra(error: ModuleNotFoundError, extra: str) -> ConfigurationError:
    """What to install, for one whose work needs optional dependencies."""
    return ConfigurationError(
        f"this command needs {error.name}, which is not installed: run "
        f"pip install 'tandem-detr[{extra}]', or, in Tandem's folder, "
        f"pip install -e '.[{extra}]'"
    )


def lazy_commands() -> Iterator[Command]:
    """Ours, and those that the installed packages add, by the names of their entry points."""
    for path, summary, load in (
        ("up", "Run an edge node, a workstation node and the orchestrator here.", _up),
        ("detect", "Detect objects in pictures, videos, cameras and network streams.", _detect),
        ("status", "Show nodes and their health, placements and open streams.", _status),
        ("placement", "Show or set where streams go that leave it to the server.", _placement),
        ("bench", "Measure throughput and latency of each placement.", _bench),
        ("certificates init", "Make an authority, and certificates for two machines.", _init),
        ("certificates issue", "Issue one certificate, or issue it again.", _issue),
        ("certificates show", "Show whose certificates these are, and how long.", _certificates),
        ("model info", "Show what a bundle holds.", _model_info),
        ("model calibrate", "Measure a bundle's features, for the codecs q6 to q2.", _calibrate),
        ("model build", "Compile both halves for this machine's NVIDIA GPU.", _model_build),
        ("model deploy", "Change a running system over to another bundle.", _model_deploy),
        ("model keygen", "Make keys for signing bundles.", _model_keygen),
        ("model sign", "Sign a bundle.", _model_sign),
        ("model verify", "Check a bundle's signature and its files.", _model_verify),
    ):
        yield Command(path, summary, load, "client")
    yield Command(
        "evaluate", "Measure COCO AP through running services.", _evaluation_app, "evaluate"
    )
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        yield point.load()


def _app_of(function: Callable[..., None]) -> typer.Typer:
    # Paragraphs are wrapped to the terminal, not where the source breaks them.
    app = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)
    app.command()(function)
    return app


def _up() -> typer.Typer:
    from tandem.cli.up import up

    return _app_of(up)


def _detect() -> typer.Typer:
    from tandem.cli.detect import detect

    return _app_of(detect)


def _status() -> typer.Typer:
    from tandem.cli.operations import status

    return _app_of(status)


def _placement() -> typer.Typer:
    from tandem.cli.operations import placement

    return _app_of(placement)


def _bench() -> typer.Typer:
    from tandem.cli.bench import bench

    return _app_of(bench)


def _init() -> typer.Typer:
    from tandem.cli.certificates import init

    return _app_of(init)


def _issue() -> typer.Typer:
    from tandem.cli.certificates import issue

    return _app_of(issue)


def _certificates() -> typer.Typer:
    from tandem.cli.certificates import show

    return _app_of(show)


def _model_info() -> typer.Typer:
    from tandem.cli.model import info

    return _app_of(info)


def _calibrate() -> typer.Typer:
    from tandem.cli.calibration import calibrate

    return _app_of(calibrate)


def _model_build() -> typer.Typer:
    from tandem.cli.model import build

    return _app_of(build)


def _model_deploy() -> typer.Typer:
    from tandem.cli.deployment import deploy

    return _app_of(deploy)


def _model_keygen() -> typer.Typer:
    from tandem.cli.signing import keygen

    return _app_of(keygen)


def _model_sign() -> typer.Typer:
    from tandem.cli.signing import sign

    return _app_of(sign)


def _model_verify() -> typer.Typer:
    from tandem.cli.signing import verify

    return _app_of(verify)


def _evaluation_app() -> typer.Typer:
    from tandem.evaluation.cli import app

    return app
