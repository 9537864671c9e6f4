"""`python -m detr.distillation table`: a teacher and its students in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.domain.errors import ConfigurationError
from detr.command import run_app
from detr.distillation.comparison import compare, table
from detr.scenes.fetch import DEFAULT_CACHE
from detr.training.checkpoints import load_checkpoint
from detr.training.data import evaluation_folder
from detr.training.recipe import Recipe

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _distillation() -> None:
    """Compare what distillation makes."""


@app.command("table")
def table_command(
    models: Annotated[
        list[str],
        typer.Argument(help="NAME=CHECKPOINT, the teacher first; its data is evaluated on."),
    ],
    *,
    limit: Annotated[int | None, typer.Option(min=1, help="Of the first pictures.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of ONNX Runtime.")] = 1,
    cache: Annotated[
        Path, typer.Option(help="Folder of fetched artwork and photographs.")
    ] = DEFAULT_CACHE,
) -> None:
    """Print parameters, backbone time and AP of models, the first being the teacher."""
    named = [_named(text) for text in models]
    recipe = Recipe.model_validate_json(load_checkpoint(named[0][1])["recipe"])
    typer.echo(table(compare(named, evaluation_folder(recipe, cache), threads, limit)))


def _named(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator:
        raise ConfigurationError(f"{text}: give each model as NAME=CHECKPOINT.")
    return name, Path(path)


if __name__ == "__main__":
    run_app(app, "python -m detr.distillation")
