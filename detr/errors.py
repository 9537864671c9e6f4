"""Errors of model import and export, and how a command line ends on any error."""

from __future__ import annotations

import sys

import typer

from common.domain.errors import CallerError, ServiceError, TandemError
from common.domain.redaction import fit_to_show


class WeightsError(CallerError):
    """A weights file cannot be taken: unreadable, unsafe, or its keys or shapes are not DETR's."""


class ExportError(ServiceError):
    """The exported halves do not compute what the model computes."""


def run_app(app: typer.Typer, program: str) -> None:
    """Run a command line by itself; a failure is one sentence on stderr, and exit 1."""
    try:
        app()
    except TandemError as error:
        sys.stderr.write(f"{program}: {fit_to_show(str(error))}\n")
        sys.exit(1)
