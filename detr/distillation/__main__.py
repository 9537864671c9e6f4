"""`python -m detr.distillation`: a teacher and its students in one table, runs in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.domain.errors import ConfigurationError
from detr.distillation.comparison import compare, draw_runs, table
from detr.errors import run_app
from detr.training.checkpoints import load_checkpoint
from detr.training.command_options import CacheOption
from detr.training.data import evaluation_folder
from detr.training.state import recipe_of

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
    cache: CacheOption = None,
) -> None:
    """Print parameters, backbone time and AP of models, the first being the teacher."""
    named = [_named(text, "CHECKPOINT") for text in models]
    recipe = recipe_of(load_checkpoint(named[0][1]), named[0][1])
    typer.echo(table(compare(named, evaluation_folder(recipe, cache), threads, limit)))


@app.command()
def curves(
    runs: Annotated[list[str], typer.Argument(help="NAME=FOLDER of each run.")],
    *,
    output: Annotated[Path, typer.Option(help="Picture to write.")] = Path("runs.png"),
) -> None:
    """Draw the AP of runs over the images seen and over the time taken."""
    draw_runs([_named(text, "FOLDER") for text in runs], output)
    typer.echo(f"wrote {output}")


def _named(text: str, what: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator:
        raise ConfigurationError(f"{text}: give each as NAME={what}.")
    return name, Path(path)


if __name__ == "__main__":
    run_app(app, "python -m detr.distillation")
