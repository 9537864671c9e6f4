"""Load weights into a model that a recipe describes, as the start of training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from detr.errors import WeightsError
from detr.importing.checkpoint import check_values, read_checkpoint
from detr.importing.reading import read_weights
from detr.model import DETR

_HEAD = ("class_embed.weight", "class_embed.bias")
_MOST_KEYS_NAMED = 5


def start_from(model: DETR, path: Path) -> tuple[str, ...]:
    """Load weights into `model`, in any form that an import takes.

    The class head stays as it is where the file's has another number of classes.

    Returns:
        What was chosen or made anew, in sentences.

    Raises:
        WeightsError: as `import_weights`, or the file is of another architecture than the model,
            naming what differs.
    """
    checkpoint, stated, remarks = read_checkpoint(path)
    wanted = model.architecture
    dilation = wanted.dilation if stated.dilation is None else stated.dilation
    found = checkpoint.architecture(stated.heads or wanted.heads, dilation)
    stated.check(path, found)
    differing = [
        f"{name} {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in type(wanted).model_fields
        if name != "classes" and getattr(found, name) != getattr(wanted, name)
    ]
    if differing:
        raise WeightsError(
            f"{path} is of another architecture than the recipe's: {', '.join(differing)}."
        )
    with torch.device("meta"):
        expected = DETR(found).state_dict()
    tensors = checkpoint.official_tensors(expected)
    if found.classes != wanted.classes:
        for key in _HEAD:
            del tensors[key]
        remarks.append(
            f"{path} has {found.classes} classes and the recipe {wanted.classes}: the class head "
            "is made anew."
        )
    _copy(tensors, model)
    return tuple(remarks)


def start_backbone(body: nn.Module, path: Path) -> None:
    """Load a ResNet's weights, as torchvision has them, but for the classifier.

    Raises:
        WeightsError: the file cannot be read, is of another ResNet, naming keys that differ, or
            holds something else than finite floats.
    """
    tensors = {
        key: value
        for key, value in read_weights(path).tensors.items()
        if not key.startswith("fc.") and not key.endswith(".num_batches_tracked")
    }
    own = {
        key: value
        for key, value in body.state_dict().items()
        if not key.endswith(".num_batches_tracked")
    }
    differing = sorted(set(tensors) ^ set(own))
    differing += [
        key for key in sorted(set(own) & set(tensors)) if own[key].shape != tensors[key].shape
    ]
    if differing:
        named = ", ".join(differing[:_MOST_KEYS_NAMED])
        raise WeightsError(f"{path} is not of the student's backbone: {named} differ.")
    for key, value in tensors.items():
        check_values(path, key, value)
    _copy(tensors, body)


@torch.no_grad()
def _copy(tensors: dict[str, Tensor], model: nn.Module) -> None:
    state = model.state_dict()
    for key, value in tensors.items():
        state[key].copy_(value)
