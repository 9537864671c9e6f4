"""Named tensors to a DETR: architecture read off the shapes, every key and shape accounted for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from pydantic import ValidationError
from torch import Tensor

from common.bundle import Architecture, Category
from detr.coco import CLASSES, COCO_CATEGORIES
from detr.errors import WeightsError
from detr.importing.layouts import Layout, recognise
from detr.importing.reading import read_config, read_tensors
from detr.model import DETR
from detr.model.resnet import BLOCKS, Bottleneck

DEFAULT_HEADS = 8
Setting = TypeVar("Setting", int, bool)
# So that a message stays a sentence when a whole part of the model is missing.
_MOST_KEYS_NAMED = 5


@dataclass(frozen=True)
class ImportedModel:
    """What `import_weights` read.

    Attributes:
        model: in evaluation mode, fp32.
        layout: name of the key layout that was recognised.
        categories: COCO's for 91 classes, else those of `config.json`, else numbered.
    """

    model: DETR
    layout: str
    categories: tuple[Category, ...]


def import_weights(
    path: Path, *, heads: int | None = None, dilation: bool | None = None
) -> ImportedModel:
    """Read published weights.

    Args:
        path: see `detr.importing.reading.read_tensors`.
        heads: attention heads, which leave no trace in the weights; by default what a
            `config.json` beside the weights says, else 8.
        dilation: whether the last stage is dilated (DC5), which leaves none either; by default
            what a `config.json` says, else no.

    Raises:
        WeightsError: unreadable or unsafe; no known layout; or a key is missing, surplus or of
            the wrong shape, which the message names as the file does.
    """
    tensors = read_tensors(path)
    layout = recognise(tensors)
    if layout is None:
        examples = ", ".join(sorted(tensors)[:_MOST_KEYS_NAMED])
        raise WeightsError(f"{path}: these are not DETR's keys in any known layout: {examples}")
    config = read_config(path)
    if heads is None:
        heads = _from_config(config, "encoder_attention_heads", DEFAULT_HEADS)
        if heads != _from_config(config, "decoder_attention_heads", heads):
            raise WeightsError(f"{path}: encoder and decoder differ in their number of heads")
    if dilation is None:
        dilation = _from_config(config, "dilation", False)
    checkpoint = _Checkpoint(path, tensors, layout)
    architecture = checkpoint.architecture(heads, dilation)
    # On the meta device: the random weights that would be replaced at once are never drawn.
    with torch.device("meta"):
        model = DETR(architecture)
    model.load_state_dict(checkpoint.official_tensors(model.state_dict()), assign=True)
    return ImportedModel(model.eval(), layout.name, _categories(architecture.classes, config))


@dataclass(frozen=True)
class _Checkpoint:
    """Tensors under the keys of a layout, seen under the official keys."""

    path: Path
    tensors: dict[str, Tensor]
    layout: Layout

    def architecture(self, heads: int, dilation: bool) -> Architecture:
        """Depths and widths, as the keys and shapes tell."""
        query_embed = self._shape("query_embed.weight", axes=2)
        try:
            return Architecture(
                backbone=cast(Any, self._backbone()),
                base_width=self._shape("backbone.0.body.conv1.weight", axes=4)[0],
                dilation=dilation,
                encoder_layers=self._count("transformer.encoder.layers.{}.linear1.weight"),
                decoder_layers=self._count("transformer.decoder.layers.{}.linear1.weight"),
                hidden_dim=query_embed[1],
                heads=heads,
                feedforward_dim=self._shape("transformer.decoder.layers.0.linear1.weight", 2)[0],
                queries=query_embed[0],
                classes=self._shape("class_embed.weight", axes=2)[0] - 1,
            )
        except ValidationError as error:
            raise WeightsError(f"{self.path}: {error.errors()[0]['msg']}") from error

    def official_tensors(self, expected: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor under its official key, fp32, once keys and shapes are found right."""
        keys = {official: self.layout.keys(official) for official in expected}
        wanted = [key for parts in keys.values() for key in parts]
        surplus = set(self.tensors) - set(wanted)
        self._report("is missing", "are missing", [k for k in wanted if k not in self.tensors])
        self._report(
            "is surplus",
            "are surplus",
            # Counts batches in training; FrozenBatchNorm has no use for it.
            [key for key in sorted(surplus) if not key.endswith(".num_batches_tracked")],
        )
        for official, tensor in expected.items():
            self._check_shape(keys[official], tensor.shape)
        return {
            official: torch.cat([self.tensors[key] for key in parts]).float().contiguous()
            for official, parts in keys.items()
        }

    def _backbone(self) -> str:
        depths = tuple(
            self._count(f"backbone.0.body.layer{stage}.{{}}.conv1.weight") for stage in (1, 2, 3, 4)
        )
        bottleneck = self._has("backbone.0.body.layer1.0.conv3.weight")
        for name, (block, known_depths) in BLOCKS.items():
            if depths == known_depths and bottleneck == (block is Bottleneck):
                return name
        kind = "bottlenecks" if bottleneck else "basic blocks"
        raise WeightsError(
            f"{self.path}: no ResNet-18, 34, 50 or 101 has stages of {depths} {kind}; "
            "blocks are missing or surplus"
        )

    def _has(self, official: str) -> bool:
        return all(key in self.tensors for key in self.layout.keys(official))

    def _count(self, template: str) -> int:
        """How many numbers from 0 on, without a gap, make the template a key."""
        count = 0
        while self._has(template.format(count)):
            count += 1
        return count

    def _shape(self, official: str, axes: int) -> torch.Size:
        (key,) = self.layout.keys(official)
        if key not in self.tensors:
            self._report("is missing", "are missing", [key])
        shape = self.tensors[key].shape
        if len(shape) != axes:
            raise WeightsError(f"{self.path}: {key} has shape {tuple(shape)}, not {axes} axes")
        return shape

    def _check_shape(self, keys: tuple[str, ...], expected: torch.Size) -> None:
        shape = (expected[0] // len(keys), *expected[1:])
        for key in keys:
            actual = tuple(self.tensors[key].shape)
            if actual != shape:
                raise WeightsError(f"{self.path}: {key} has shape {actual}, expected {shape}")

    def _report(self, one: str, many: str, keys: list[str]) -> None:
        if not keys:
            return
        named = ", ".join(keys[:_MOST_KEYS_NAMED])
        more = len(keys) - _MOST_KEYS_NAMED
        named += f" and {more} more" if more > 0 else ""
        raise WeightsError(
            f"{self.path} ({self.layout.name} layout): {named} {one if len(keys) == 1 else many}"
        )


def _from_config(config: dict[str, Any], key: str, default: Setting) -> Setting:
    value = config.get(key, default)
    if type(value) is not type(default):
        raise WeightsError(f"config.json: {key} is {value!r}, not a {type(default).__name__}")
    return value


def _categories(classes: int, config: dict[str, Any]) -> tuple[Category, ...]:
    if classes == CLASSES:
        return COCO_CATEGORIES
    names = config.get("id2label")
    if not isinstance(names, dict):
        names = {}
    return tuple(
        Category(class_index=i, id=i, name=str(names.get(str(i), f"class {i}")))
        for i in range(classes)
    )
