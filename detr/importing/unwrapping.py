"""Find weights in what training codes save: dictionaries, prefixes, averages beside a model."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from detr.errors import WeightsError

# Averaged weights come first: they are what such a code evaluates.
_AVERAGES = ("average", "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
_MODELS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
# One that every DETR has: official, Hugging Face's; and one that every ResNet has.
_TELLING = (
    "query_embed.weight",
    "model.query_position_embeddings.weight",
    "layer1.0.conv1.weight",
)
# A loss's own, which some codes save with the model.
_LOSS_PREFIXES = ("criterion.", "loss.")
_EMA = re.compile(r"(?:^|[._])ema(?:[._]|$)")
_MOST_LEVELS = 4


@dataclass(frozen=True)
class Unwrapped:
    """Tensors under the model's own keys.

    Attributes:
        tensors: the tensors, by key.
        args: what the training code saved of its settings; empty where it saved none.
        remarks: what was chosen, in sentences.
    """

    tensors: dict[str, Tensor]
    args: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def unwrap(content: Any, path: Path) -> Unwrapped:
    """Find the weights in what a file holds.

    Raises:
        WeightsError: it holds none.
    """
    args: Mapping[str, Any] = {}
    remarks: list[str] = []
    for _ in range(_MOST_LEVELS):
        if not isinstance(content, dict):
            break
        args = args or _args(content, path)
        key = _wrapper(content)
        if key is None:
            break
        if key in _AVERAGES and any(name in content for name in _MODELS):
            remarks.append(f"{path} holds averaged weights ({key}) beside others; they are taken.")
        content = content[key]
    named = named_tensors(content, path)
    prefix = _prefix(named, path)
    if _EMA.search(prefix):
        remarks.append(f"{path} holds averaged weights ({prefix}) beside others; they are taken.")
    return Unwrapped(_without(prefix, named), args, tuple(remarks))


def named_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Return a dictionary of tensors as such.

    Raises:
        WeightsError: it is something else.
    """
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds no tensors under 'model', nor anywhere else.")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{path}: {name} is a {type(value).__name__}, not a tensor.")
    return {str(name): value for name, value in content.items()}


def _wrapper(content: dict[Any, Any]) -> str | None:
    """Return the key that the weights are under, or None if they are at this level."""
    for key in (*_AVERAGES, *_MODELS):
        if isinstance(content.get(key), dict) and content[key]:
            return key
    return None


def _args(content: dict[Any, Any], path: Path) -> Mapping[str, Any]:
    """Return settings under the names of the official training script."""
    if isinstance(content.get("recipe"), str):
        return _args_of_recipe(content["recipe"], path)
    for key in ("args", "hyper_parameters", "hparams"):
        found = content.get(key)
        if isinstance(found, argparse.Namespace):
            found = vars(found)
        if isinstance(found, dict):
            nested = found.get("args")
            return vars(nested) if isinstance(nested, argparse.Namespace) else found
    return {}


def _args_of_recipe(text: str, path: Path) -> Mapping[str, Any]:
    """Return the settings in a checkpoint of Tandem's own training."""
    try:
        architecture = json.loads(text)["architecture"]
        return {"nheads": architecture["heads"], "dilation": architecture["dilation"]}
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} holds a recipe that cannot be read.") from error


def _prefix(tensors: dict[str, Tensor], path: Path) -> str:
    """Return the prefix of the model's own keys, found by a key that a DETR has only once."""
    for telling in _TELLING:
        found = sorted(
            key.removesuffix(telling)
            for key in tensors
            if key == telling or key.endswith(f".{telling}")
        )
        averages = [prefix for prefix in found if _EMA.search(prefix)]
        if len(found) == 1 or len(averages) == 1:
            return (averages or found)[0]
        if found:
            raise WeightsError(
                f"{path} holds several models, under {', '.join(found)}: save one of them alone."
            )
    return ""


def _without(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip the prefix; keys that fit nowhere stay, and are refused later."""
    beside: tuple[str, ...] = _LOSS_PREFIXES
    if prefix == "detr.":
        # What only our own training has: further queries, a head on the encoder, adapters.
        beside += ("extra_queries", "dense_head.", "adapters.", "statistics.")
    elif _EMA.search(prefix):
        beside += tuple({f"{key.split('.')[0]}." for key in tensors if not key.startswith(prefix)})
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if (prefix and key.startswith(prefix)) or not key.startswith(beside)
    }
