"""How the commands of this package end."""

from __future__ import annotations

import sys

import typer

from common.domain.errors import TandemError


def run_app(app: typer.Typer, program: str) -> None:
    """Run a command line by itself; a failure is one sentence on stderr, and exit 1."""
    try:
        app()
    except TandemError as error:
        sys.stderr.write(f"{program}: {error}\n")
        sys.exit(1)
