"""Named tensors to a DETR: the shapes tell the architecture; every key and shape is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from pydantic import ValidationError
from torch import Tensor

from common.bundle import Architecture, Category
from common.validation import reason
from detr.coco.categories import CLASSES, COCO_CATEGORIES
from detr.errors import WeightsError
from detr.importing.hub import (
    Preprocessing,
    stated_by_config,
    stated_preprocessing,
    used_names,
)
from detr.importing.layouts import Layout, recognise
from detr.importing.processors import read_processor
from detr.importing.reading import CONFIG_NAME, read_config, read_weights
from detr.importing.stated import DEFAULT_HEADS, Stated, shown, stated_by_args
from detr.model import DETR
from detr.model.resnet import BLOCKS, Bottleneck

Value = TypeVar("Value", int, bool)
# A message stays readable even if a whole part of the model is missing.
_MOST_KEYS_NAMED = 5
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class ImportedModel:
    """What `import_weights` read.

    Attributes:
        model: in evaluation mode, fp32.
        layout: name of the key layout that was recognised.
        categories: those of `config.json`, else COCO's for 91 classes, else numbered.
        preprocessing: what the model was trained for, as far as that is stated.
        remarks: what had to be assumed or chosen, in sentences.
    """

    model: DETR
    layout: str
    categories: tuple[Category, ...]
    preprocessing: Preprocessing = Preprocessing()
    remarks: tuple[str, ...] = ()


def import_weights(
    path: Path, *, heads: int | None = None, dilation: bool | None = None
) -> ImportedModel:
    """Read published weights.

    Args:
        path: see `detr.importing.reading.read_weights`.
        heads: attention heads, which leave no trace in the weights; by default what the
            checkpoint's `args` or a `config.json` beside the weights say, else 8.
        dilation: whether the last stage is dilated (DC5), which leaves none either; by default
            what those say, else no.

    Raises:
        WeightsError: unreadable or unsafe; no known layout; a key is missing, surplus or of the
            wrong shape, which the message names as the file does; or what the file says of the
            model contradicts its weights, the arguments, or what Tandem's DETR computes.
    """
    checkpoint, stated, remarks = read_checkpoint(path)
    chosen_heads = _chosen(path, stated, "heads", heads, remarks)
    chosen_dilation = _chosen(path, stated, "dilation", dilation, remarks)
    if chosen_heads is None:
        remarks.append(
            f"{path} does not say how many attention heads: {DEFAULT_HEADS} are assumed."
        )
    if chosen_dilation is None:
        remarks.append(f"{path} does not say whether the last stage is dilated: it is assumed not.")
    architecture = checkpoint.architecture(chosen_heads or DEFAULT_HEADS, bool(chosen_dilation))
    stated.check(path, architecture)
    # On the meta device: the random weights that would be replaced at once are never drawn.
    with torch.device("meta"):
        model = DETR(architecture)
    model.load_state_dict(checkpoint.official_tensors(model.state_dict()), assign=True)
    categories = _categories(path, architecture.classes, stated.names)
    preprocessing = stated_preprocessing(read_processor(path))
    layout = checkpoint.layout.name
    return ImportedModel(model.eval(), layout, categories, preprocessing, tuple(remarks))


def read_checkpoint(path: Path) -> tuple[Checkpoint, Stated, list[str]]:
    """Read weights and what stands beside them; errors as `import_weights`.

    Returns:
        The tensors, what is said of the model, and remarks.
    """
    read = read_weights(path)
    layout = recognise(read.tensors)
    if layout is None:
        examples = ", ".join(sorted(read.tensors)[:_MOST_KEYS_NAMED])
        raise WeightsError(f"{path}: these are not DETR's keys in any known layout: {examples}")
    stated = stated_by_args(read.args) if read.args else stated_by_config(read_config(path))
    remarks = list(read.remarks)
    if stated.unknown:
        named, more = stated.unknown[:_MOST_KEYS_NAMED], len(stated.unknown) - _MOST_KEYS_NAMED
        remarks.append(
            f"{stated.source} has {', '.join(map(shown, named))}"
            f"{f' and {more} more' if more > 0 else ''}, which no DETR of transformers uses: it is "
            "not looked at. If what was trained depends on it, this is another model."
        )
    return Checkpoint(path, read.tensors, layout), stated, remarks


def _chosen(
    path: Path, stated: Stated, name: str, asked: Value | None, remarks: list[str]
) -> Value | None:
    """Return what is asked for; refuse it if the checkpoint's own `args` contradict it."""
    said: Value | None = getattr(stated, name)
    if asked is None or said is None or asked == said:
        return said if asked is None else asked
    if stated.source != CONFIG_NAME:
        raise WeightsError(f"{path}: {stated.source} say {name} {said}, but {asked} is asked for.")
    remarks.append(f"{stated.source} says {name} {said}; {asked} is taken, as asked for.")
    return asked


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under the keys of a layout, seen under the official keys."""

    path: Path
    tensors: dict[str, Tensor]
    layout: Layout

    def architecture(self, heads: int, dilation: bool) -> Architecture:
        """Return the depths and widths that keys and shapes show."""
        query_embed = self.shape("query_embed.weight", axes=2)
        try:
            return Architecture(
                backbone=cast(Any, self._backbone()),
                base_width=self.shape("backbone.0.body.conv1.weight", axes=4)[0],
                dilation=dilation,
                encoder_layers=self._count("transformer.encoder.layers.{}.linear1.weight"),
                decoder_layers=self._count("transformer.decoder.layers.{}.linear1.weight"),
                hidden_dim=query_embed[1],
                heads=heads,
                feedforward_dim=self.shape("transformer.decoder.layers.0.linear1.weight", 2)[0],
                queries=query_embed[0],
                classes=self.shape("class_embed.weight", axes=2)[0] - 1,
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{field}: " for field in first["loc"])
            raise WeightsError(f"{self.path}: {where}{reason(first)}") from error

    def official_tensors(self, expected: dict[str, Tensor]) -> dict[str, Tensor]:
        """Check keys and shapes, and return every tensor in fp32 under its official key."""
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
            self._check_tensors(keys[official], tensor.shape)
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
        """Count the numbers, from 0 without a gap, that turn the template into a key."""
        count = 0
        while self._has(template.format(count)):
            count += 1
        return count

    def shape(self, official: str, axes: int) -> torch.Size:
        """Return the shape of a tensor that every DETR has, by its official key."""
        (key,) = self.layout.keys(official)
        if key not in self.tensors:
            self._report("is missing", "are missing", [key])
        shape = self.tensors[key].shape
        if len(shape) != axes:
            raise WeightsError(f"{self.path}: {key} has shape {tuple(shape)}, not {axes} axes")
        return shape

    def _check_tensors(self, keys: tuple[str, ...], expected: torch.Size) -> None:
        shape = (expected[0] // len(keys), *expected[1:])
        for key in keys:
            tensor = self.tensors[key]
            actual = tuple(tensor.shape)
            if actual != shape:
                raise WeightsError(f"{self.path}: {key} has shape {actual}, expected {shape}")
            check_values(self.path, key, tensor)

    def _report(self, one: str, many: str, keys: list[str]) -> None:
        if not keys:
            return
        named = ", ".join(keys[:_MOST_KEYS_NAMED])
        more = len(keys) - _MOST_KEYS_NAMED
        named += f" and {more} more" if more > 0 else ""
        raise WeightsError(
            f"{self.path} ({self.layout.name} layout): {named} {one if len(keys) == 1 else many}"
        )


def check_values(path: Path, key: str, tensor: Tensor) -> None:
    """Check that a tensor holds weights.

    Raises:
        WeightsError: it holds no floats, none at all, or some that are not finite.
    """
    if tensor.dtype not in _FLOATS or tensor.layout is not torch.strided:
        raise WeightsError(
            f"{path}: {key} is of {tensor.dtype}, {tensor.layout}; weights are dense floats."
        )
    if tensor.is_meta:
        raise WeightsError(
            f"{path}: {key} has a shape but no values, as in a model that was never loaded "
            "(torch's meta device)."
        )
    if not tensor.isfinite().all():
        raise WeightsError(f"{path}: {key} holds values that are not finite.")


def _categories(path: Path, classes: int, names: Mapping[int, str] | None) -> tuple[Category, ...]:
    if names is None and classes == CLASSES:
        return COCO_CATEGORIES
    names = names or {}
    beyond = [row for row in names if row >= classes]
    if beyond:
        raise WeightsError(
            f"{path}: id2label names class {beyond[0]}, but the weights have {classes} classes."
        )
    named = {row: names.get(row, f"class {row}") for row in range(classes)}
    return tuple(_category(path, row, name) for row, name in used_names(path, named).items())


def _category(path: Path, row: int, name: str) -> Category:
    try:
        return Category(class_index=row, id=row, name=name)
    except ValidationError as error:
        raise WeightsError(
            f"{path}: id2label's name of class {row} cannot be used: {reason(error.errors()[0])}."
        ) from error
