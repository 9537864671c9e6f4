"""The categories of COCO 2017, and those of a data set against those of a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from common.bundle import Category
from common.domain.errors import ConfigurationError
from detr.coco.instances import Say

CLASSES = 91
"""Rows of a class head trained on COCO: its largest id, 90, and one."""

_NAMES = {
    1: "person",
    2: "bicycle",
    3: "car",
    4: "motorcycle",
    5: "airplane",
    6: "bus",
    7: "train",
    8: "truck",
    9: "boat",
    10: "traffic light",
    11: "fire hydrant",
    13: "stop sign",
    14: "parking meter",
    15: "bench",
    16: "bird",
    17: "cat",
    18: "dog",
    19: "horse",
    20: "sheep",
    21: "cow",
    22: "elephant",
    23: "bear",
    24: "zebra",
    25: "giraffe",
    27: "backpack",
    28: "umbrella",
    31: "handbag",
    32: "tie",
    33: "suitcase",
    34: "frisbee",
    35: "skis",
    36: "snowboard",
    37: "sports ball",
    38: "kite",
    39: "baseball bat",
    40: "baseball glove",
    41: "skateboard",
    42: "surfboard",
    43: "tennis racket",
    44: "bottle",
    46: "wine glass",
    47: "cup",
    48: "fork",
    49: "knife",
    50: "spoon",
    51: "bowl",
    52: "banana",
    53: "apple",
    54: "sandwich",
    55: "orange",
    56: "broccoli",
    57: "carrot",
    58: "hot dog",
    59: "pizza",
    60: "donut",
    61: "cake",
    62: "chair",
    63: "couch",
    64: "potted plant",
    65: "bed",
    67: "dining table",
    70: "toilet",
    72: "tv",
    73: "laptop",
    74: "mouse",
    75: "remote",
    76: "keyboard",
    77: "cell phone",
    78: "microwave",
    79: "oven",
    80: "toaster",
    81: "sink",
    82: "refrigerator",
    84: "book",
    85: "clock",
    86: "vase",
    87: "scissors",
    88: "teddy bear",
    89: "hair drier",
    90: "toothbrush",
}

COCO_CATEGORIES = tuple(
    # The row of the class head is the id; the ids that COCO left out have rows that mean nothing.
    Category(class_index=category_id, id=category_id, name=name)
    for category_id, name in _NAMES.items()
)


_MOST_NAMED = 10


def match_categories(
    path: Path, listed: Mapping[int, str], used: Collection[int], model: Mapping[int, str], say: Say
) -> dict[int, int]:
    """Return which of the model's categories stands for each of the data set's that it knows.

    Args:
        path: the data set's file, for messages.
        listed: its ids and names.
        used: the ids that annotations have; others count for nothing.
        model: the model's ids and names; one that an import made up (`class 7`) fits any.
        say: is told if names decide, and of categories that the model does not know at all.

    Raises:
        ConfigurationError: a used category contradicts the model's by id or name and names alone do
            not settle it, or the model knows none of them.
    """
    by_name = {_folded(name): one for one, name in model.items() if name}
    wrong = [one for one in sorted(used) if not _same(listed[one], model.get(one))]
    unknown = [one for one in wrong if _folded(listed[one]) not in by_name]
    if all(one in unknown and one not in model for one in wrong) and len(wrong) < len(used):
        if unknown:
            say(_not_known(path, unknown, listed))
        return {one: one for one, name in listed.items() if _same(name, model.get(one))}
    if unknown:
        raise ConfigurationError(_contradiction(path, wrong, unknown, listed, model))
    matched = {
        one: by_name[_folded(name)] for one, name in listed.items() if _folded(name) in by_name
    }
    if len(set(matched.values())) < len(matched):
        raise ConfigurationError(f"{path}: two categories have the name of one of the model's.")
    first = wrong[0]
    say(
        f"{path}: its category ids are not the model's, so categories are matched by name: "
        f"{first} {listed[first]!r} is the model's {matched[first]}, and so on."
    )
    return matched


def _not_known(path: Path, unknown: list[int], listed: Mapping[int, str]) -> str:
    names = ", ".join(listed[one] for one in unknown[:_MOST_NAMED])
    more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
    return f"{path}: the model does not know {names}{more}; their objects count as missed."


def _contradiction(
    path: Path,
    wrong: list[int],
    unknown: list[int],
    listed: Mapping[int, str],
    model: Mapping[int, str],
) -> str:
    one = unknown[0] if unknown[0] in wrong else wrong[0]
    has = f"the model's category {one} is {model[one]!r}" if one in model else "the model has no"
    its = has if one in model else f"{has} category {one}"
    names = sorted(name for name in model.values() if name)
    shown = ", ".join(names[:_MOST_NAMED])
    shown += f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (
        f"{path}: category {one} is {listed[one]!r}, but {its}, and names do not settle it: the "
        f"model does not know {listed[unknown[0]]!r}; it knows {shown or 'no names'}."
    )


def same_name(name: str, other: str) -> bool:
    """Tell whether two names agree but for case and spaces, or the second is empty or made up."""
    return (
        not other
        or re.fullmatch(r"class \d+", other) is not None
        or (_folded(name) == _folded(other))
    )


def _same(name: str, known: str | None) -> bool:
    return known is not None and same_name(name, known)


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
