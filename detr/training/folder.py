"""From a checkpoint to a Hugging Face folder, as `tandem model import` and others take it."""

from __future__ import annotations

from pathlib import Path

from common.domain.errors import ConfigurationError
from detr.training.checkpoints import load_checkpoint
from detr.training.data import categories_of, evaluation_folder
from detr.training.state import recipe_of


def write_folder(checkpoint: Path, out: Path, cache: Path | None) -> None:
    """Write the averaged weights with `config.json` and `preprocessor_config.json`.

    Args:
        checkpoint: of a run.
        out: the folder; it must be new or empty.
        cache: folder of fetched artwork, for runs on scenes; None: the default one.

    Raises:
        ConfigurationError: there is no checkpoint, the folder holds something, the run's data are
            gone, or it is a DETR's, whose checkpoint is imported as it is.
    """
    content = load_checkpoint(checkpoint)
    recipe = recipe_of(content, checkpoint)
    if recipe.family == "detr":
        raise ConfigurationError(
            f"{checkpoint} is a DETR's: `tandem model import {checkpoint}` takes it as it is."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out} exists and is not an empty folder: name another.")
    from detr.training.d_fine_family import DFineFamily

    family = DFineFamily()
    model = family.plain_model(recipe, content["average"])
    categories = categories_of(recipe, evaluation_folder(recipe, cache))
    family.save_folder(recipe, model, categories, out)
