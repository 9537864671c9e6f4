"""A D-FINE as teacher, read from a checkpoint, a record, a bundle or a Hugging Face folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bundle.folder import MANIFEST_NAME
from common.domain.errors import ConfigurationError
from detr.distillation.teacher import names_of, record_of_bundle
from detr.families.d_fine import NAME, DFine
from detr.families.loading import configuration_of
from detr.importing.reading import read_config, read_weights
from detr.training.checkpoints import RECORD_NAME, WEIGHTS_NAME, load_checkpoint, read_record
from detr.training.d_fine_model import shift_scores
from detr.training.families import trained_family
from detr.training.recipe import FamilyTeacher, Recipe
from detr.training.state import recipe_of


@dataclass(frozen=True)
class DFineTeacher:
    """A trained D-FINE that stays as it is.

    Attributes:
        identity: its name, digest and configuration, which a run's recipe records.
        model: a `DFineForObjectDetection` in evaluation mode, without gradients.
        names: names of its class head's rows, as far as they are known.
    """

    identity: FamilyTeacher
    model: Any
    names: Mapping[int, str]


def load_d_fine_teacher(path: Path) -> DFineTeacher:
    """Read a teacher.

    Args:
        path: `checkpoint.pt` of a run, whose averaged weights are used; a record's folder; a bundle
            whose record lies beside it, in `records`; or a Hugging Face folder.

    Raises:
        ConfigurationError: there is nothing there, or it is of another family.
        WeightsError: the folder holds no D-FINE, or one that Tandem does not honour.
    """
    if not path.exists():
        raise ConfigurationError(f"there is no teacher {path}.")
    if path.is_dir() and (path / MANIFEST_NAME).is_file():
        return _from_record(record_of_bundle(path))
    if path.is_dir() and (path / RECORD_NAME).is_file():
        return _from_record(path)
    if path.is_file():
        return _from_checkpoint(path)
    config = read_config(path)
    if config.get("model_type") != NAME:
        raise ConfigurationError(f"{path} holds no D-FINE (model_type d_fine in its config.json).")
    names = {int(row): str(name) for row, name in (config.get("id2label") or {}).items()}
    return _teacher(path.name, DFine().read(path, config), names)


def _from_record(record: Path) -> DFineTeacher:
    recipe = Recipe.model_validate(read_record(record)["recipe"])
    _require_d_fine(recipe, record)
    read = read_weights(record / WEIGHTS_NAME).tensors
    weights = {n: v.float() if v.is_floating_point() else v for n, v in read.items()}
    model = trained_family(recipe).with_weights(recipe, weights)
    # What ships is shifted; a student learns from the model as it was trained, and is shifted then.
    shift_scores(model, -recipe.score_shift)
    return _teacher(recipe.name, model, names_of(recipe))


def _from_checkpoint(path: Path) -> DFineTeacher:
    content = load_checkpoint(path)
    recipe = recipe_of(content, path)
    _require_d_fine(recipe, path)
    unshifted = recipe.model_copy(update={"score_shift": 0.0})
    model = trained_family(recipe).plain_model(unshifted, content["average"])
    return _teacher(recipe.name, model, names_of(recipe))


def _require_d_fine(recipe: Recipe, path: Path) -> None:
    if recipe.family != NAME:
        raise ConfigurationError(f"teacher {path} is of the family {recipe.family}, not {NAME}.")


def _teacher(name: str, model: Any, names: Mapping[int, str]) -> DFineTeacher:
    model.eval().requires_grad_(False)
    told = DFine.fields.stated(configuration_of(model))
    told.pop("model_type")
    told["num_labels"] = model.config.num_labels
    identity = FamilyTeacher(name=name, sha256=_sha256(model), configuration=told)
    return DFineTeacher(identity, model, names)


def _sha256(model: Any) -> str:
    """Digest all weights in the order of their names, whatever kind of file held them."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        # Of training alone; a release leaves it out.
        if "denoising_class_embed" not in name:
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
