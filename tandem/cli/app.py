"""The `tandem` command line, put together."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
import typer.main

from common.domain.redaction import fit_to_show
from common.telemetry.tracing import are_on, tell_faults
from tandem import __version__
from tandem.cli.commands import LazyCommand, lazy_commands

PROGRAM = "tandem"


def run_command(arguments: list[str]) -> int:
    """Run a command line to its exit code; wrong usage is a sentence on stderr and exit 2.

    Raises:
        TandemError: the command failed.
    """
    _tell_faults_of_traces()
    command = build_command()
    try:
        code = command.main(args=arguments or ["--help"], prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        sentence = " ".join(error.format_message().split()).rstrip(".")
        # How the parser begins what is wrong with one of several names.
        sentence = sentence.replace(": Value error, ", ": ")
        context = getattr(error, "ctx", None)
        path = context.command_path if context else _path_of(command, arguments)
        sys.stderr.write(f"{PROGRAM}: {fit_to_show(sentence)} (see {path} --help)\n")
        return error.exit_code
    return code if isinstance(code, int) else 0


def _path_of(command: Any, arguments: list[str]) -> str:
    """The command that arguments name, for those faults of which the parser does not say."""
    path = [PROGRAM]
    for name in arguments:
        command = getattr(command, "commands", {}).get(name)
        if command is None:
            break
        path.append(name)
    return " ".join(path)


def _tell_faults_of_traces() -> None:
    if are_on(os.environ):
        from tandem.cli.console import show_notice

        tell_faults(show_notice)


def build_command() -> Any:
    """The whole command."""
    app = typer.Typer(
        name=PROGRAM,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Paragraphs are wrapped to the terminal, not where the source breaks them.
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_tandem)
    groups = {"bottleneck": _bottleneck, "certificates": _certificates, "model": _model}
    for name, describe in groups.items():
        commands = typer.Typer()
        commands.callback()(describe)
        app.add_typer(commands, name=name)
    command: Any = typer.main.get_group(app)
    for added in lazy_commands():
        *above, _ = added.path.split()
        parent = command
        for group in above:
            parent = parent.commands[group]
        parent.add_command(LazyCommand(added))
    # Listed last, behind the commands that people use every day.
    for name in groups:
        command.commands[name] = command.commands.pop(name)
    return command


def _tandem(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, help="Show the version.", callback=_show_version),
    ] = False,
) -> None:
    """DETR object detection across two devices.

    A backbone turns frames into features, a transformer turns features into boxes; each half
    runs on the edge device or on the workstation. Everything also runs on this machine alone.
    """


def _bottleneck() -> None:
    """Learn to send features in few bytes: train a bottleneck, and put it into a bundle."""


def _certificates() -> None:
    """Make, issue and inspect certificates: how services and their callers know each other."""


def _model() -> None:
    """Make and inspect bundles: folders with a model, split, and all that is needed to run it."""


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit
