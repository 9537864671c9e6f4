"""The teacher: a trained DETR, read from a checkpoint, a record, a bundle or a weights file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.bundle import Architecture, load_bundle, require_detr
from common.bundle.folder import MANIFEST_NAME
from common.domain.errors import ConfigurationError
from detr.importing import import_weights
from detr.importing.reading import read_weights
from detr.model import DETR
from detr.training.checkpoints import RECORD_NAME, WEIGHTS_NAME, load_checkpoint, read_record
from detr.training.data import scene_categories
from detr.training.model import TrainingModel
from detr.training.recipe import CocoData, Recipe, ScenesData, TeacherIdentity, TrainingParts
from detr.training.state import recipe_of


@dataclass(frozen=True)
class Teacher:
    """A trained model that stays as it is.

    Attributes:
        identity: its name, digest and architecture, which a run's recipe records.
        parts: the query groups and dense head that it still has from its own training.
        model: in evaluation mode, with fixed norms, without gradients.
        names: names of its class head's rows, as far as they are known.
    """

    identity: TeacherIdentity
    parts: TrainingParts
    model: TrainingModel
    names: Mapping[int, str]


def load_teacher(path: Path, say: Callable[[str], None] = lambda _: None) -> Teacher:
    """Read a teacher.

    Args:
        path: `checkpoint.pt` of a training run, whose averaged weights are used and whose query
            groups and dense head help the student too; a record's folder or weights file; a
            bundle whose record lies beside it, in `records`; or any file that `tandem model
            import` reads.
        say: called with what an import had to assume.

    Raises:
        ConfigurationError: there is nothing there, or it holds no weights.
        WeightsError: the weights are of no known layout.
    """
    if not path.exists():
        raise ConfigurationError(f"there is no teacher {path}.")
    if path.is_dir() and (path / MANIFEST_NAME).is_file():
        require_detr(load_bundle(path).manifest, "distillation of a ResNet")
        return _from_record(record_of_bundle(path))
    if path.is_dir() and (path / RECORD_NAME).is_file():
        return _from_record(path)
    if path.name == WEIGHTS_NAME and (path.parent / RECORD_NAME).is_file():
        return _from_record(path.parent)
    if path.is_file() and _is_checkpoint(path):
        return _from_checkpoint(path)
    imported = import_weights(path)
    for remark in imported.remarks:
        say(remark)
    detr = imported.model
    names = {category.class_index: category.name for category in imported.categories}
    state = _prefixed(detr.state_dict())
    return _teacher(path.stem, detr.architecture, TrainingParts(), state, names)


def check_classes(teacher: Teacher, data: ScenesData | CocoData) -> None:
    """Refuse a teacher that has another number of classes than the data.

    Raises:
        ConfigurationError: the numbers differ. For COCO folders, reading the data finds it.
    """
    check_class_count(teacher.identity.name, teacher.identity.architecture.classes, data)


def check_class_count(name: str, classes: int, data: ScenesData | CocoData) -> None:
    """Refuse a teacher that knows another number of classes; see `check_classes`."""
    if not isinstance(data, ScenesData):
        return
    wanted = len(scene_categories())
    if classes != wanted:
        raise ConfigurationError(
            f"teacher {name} knows {classes} classes, but the recipe's data has {wanted}."
        )


def record_of_bundle(bundle: Path) -> Path:
    """Return the record that lies beside a bundle.

    Raises:
        ConfigurationError: there is none.
    """
    name = load_bundle(bundle).manifest.name
    record = bundle.parent / "records" / name
    if not (record / RECORD_NAME).is_file():
        raise ConfigurationError(
            f"bundle {bundle} holds no weights to learn from, and there is no record {record}: "
            "give a checkpoint or a weights file as the teacher."
        )
    return record


def _from_record(record: Path) -> Teacher:
    recipe = Recipe.model_validate(read_record(record)["recipe"])
    read = read_weights(record / WEIGHTS_NAME).tensors
    weights = {name: value.float() for name, value in read.items()}
    # What ships is shifted; a student learns from the model as it was trained, and is shifted then.
    weights["class_embed.bias"][-1] -= recipe.no_object_shift
    state = _prefixed(weights)
    return _teacher(recipe.name, recipe.detr_architecture, TrainingParts(), state, names_of(recipe))


def _is_checkpoint(path: Path) -> bool:
    try:
        content = load_checkpoint(path)
    except ConfigurationError:
        return False
    return {"step", "recipe", "average"} <= set(content)


def _from_checkpoint(path: Path) -> Teacher:
    content = load_checkpoint(path)
    recipe = recipe_of(content, path)
    average = content["average"]
    return _teacher(recipe.name, recipe.detr_architecture, recipe.parts, average, names_of(recipe))


def names_of(recipe: Recipe) -> Mapping[int, str]:
    """Return the names of the class head's rows, as far as a recipe tells them."""
    if isinstance(recipe.data, CocoData):
        return recipe.data.categories
    return {category.class_index: category.name for category in scene_categories()}


def _teacher(
    name: str,
    architecture: Architecture,
    parts: TrainingParts,
    state: dict[str, Tensor],
    names: Mapping[int, str],
) -> Teacher:
    dense_head = parts.dense_head_weight > 0
    model = TrainingModel(DETR(architecture, dropout=0.0), parts.query_groups, dense_head)
    wanted = {"extra_queries", *(key for key, _ in model.named_parameters())}
    wanted |= {key for key, _ in model.named_buffers()}
    model.load_state_dict({key: value for key, value in state.items() if key in wanted})
    model.eval().requires_grad_(False)
    identity = TeacherIdentity(name=name, sha256=_sha256(model), architecture=architecture)
    return Teacher(identity, parts, model, names)


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a plain model's weights as those of a `TrainingModel` with one group of queries."""
    prefixed = {f"detr.{name}": value for name, value in state.items()}
    hidden_dim = state["query_embed.weight"].shape[1]
    return {**prefixed, "extra_queries": torch.empty(0, hidden_dim)}


def _sha256(model: TrainingModel) -> str:
    """Digest all weights in the order of their names, whatever kind of file held them."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
