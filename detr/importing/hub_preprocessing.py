"""Hugging Face's `preprocessor_config.json`: how pictures were made into a model's input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.bundle import Normalization, ShortestEdgeInput
from detr.errors import WeightsError
from detr.importing.stated import Reader, shown

PREPROCESSOR_NAME = "preprocessor_config.json"


@dataclass(frozen=True)
class Preprocessing:
    """What a model was trained for.

    Attributes:
        normalization: mean and standard deviation; ImageNet's unless stated.
        input: the resize, if it is DETR's; None where nothing, or another one, is stated.
    """

    normalization: Normalization = Normalization()
    input: ShortestEdgeInput | None = None


def stated_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """Take what changes the pixels that a model sees.

    Raises:
        WeightsError: a field means what Tandem does not do, or is of a wrong type.
    """
    reader = Reader(PREPROCESSOR_NAME, config)
    for step in ("do_normalize", "do_rescale"):
        reader.only(step, True)
    reader.only("format", "coco_detection")
    factor = config.get("rescale_factor")
    if factor is not None and not (_number(factor) and math.isclose(factor, 1 / 255)):
        raise WeightsError(
            f"{PREPROCESSOR_NAME}: rescale_factor is {shown(factor)}, and Tandem has only 1/255."
        )
    default = Normalization()
    normalization = Normalization(
        mean=_three(config, "image_mean") or default.mean,
        std=_three(config, "image_std", positive=True) or default.std,
    )
    return Preprocessing(normalization, _input(config))


def _three(
    config: Mapping[str, Any], name: str, positive: bool = False
) -> tuple[float, float, float] | None:
    value = config.get(name)
    if value is None:
        return None
    fits = isinstance(value, list) and len(value) == 3 and all(map(_number, value))
    if not fits or (positive and min(value) <= 0):
        raise WeightsError(
            f"{PREPROCESSOR_NAME}: {name} is {shown(value)}, not a number for each of R, G and B."
        )
    red, green, blue = map(float, value)
    return red, green, blue


def _input(config: Mapping[str, Any]) -> ShortestEdgeInput | None:
    size = config.get("size")
    if type(size) is int:
        size = {"shortest_edge": size, "longest_edge": config.get("max_size")}
    if not isinstance(size, dict):
        return None
    reader = Reader(f"{PREPROCESSOR_NAME}, size", size)
    short, long = reader.whole("shortest_edge"), reader.whole("longest_edge")
    if short is None or long is None or long < short:
        return None
    return ShortestEdgeInput(shortest_edge=short, longest_edge=long)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6
