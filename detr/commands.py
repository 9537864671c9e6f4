"""The commands that this package adds to `tandem`, named without importing torch.

They are entry points of the group `tandem.commands` in pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command of the `tandem` command line that is loaded when it is run.

    Attributes:
        path: its words on the command line behind `tandem`.
        summary: a sentence for the list of commands.
        load: imports the Typer application that has the command.
        extra: the optional dependencies that it needs.
    """

    path: str
    summary: str
    load: Callable[[], Any]
    extra: str = "train"


def _import_app() -> Any:
    from detr.cli import app

    return app


def _training_app() -> Any:
    from detr.training.cli import app

    return app


def _distillation_app() -> Any:
    from detr.distillation.cli import app

    return app


def _bottleneck_app() -> Any:
    from detr.bottleneck.cli import app

    return app


BOTTLENECK_TRAIN = Command(
    "bottleneck train", "Train a bottleneck between a model's halves.", _bottleneck_app
)
BOTTLENECK_EXPORT = Command(
    "bottleneck export", "Put a trained bottleneck into a copy of a bundle.", _bottleneck_app
)
IMPORT = Command(
    "model import", "Make a bundle from official or Hugging Face weights.", _import_app
)
TRAIN = Command("train", "Train the demo model.", _training_app)
DISTILL = Command("distill", "Make a smaller model from a trained one.", _distillation_app)
