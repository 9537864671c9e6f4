"""What the rows of a class head stand for, with COCO's ids where the names are COCO's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from common.bundle import Category
from common.validation import reason
from detr.coco.categories import COCO_CATEGORIES
from detr.errors import WeightsError
from detr.importing.hub import NOT_USED, used_names

# How the labels that RT-DETR and D-FINE are published with call some of COCO's 80 categories.
_SYNONYMS = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
}
_COCO = {category.name.replace(" ", ""): category for category in COCO_CATEGORIES}


def categories_of(
    folder: Path, rows: int, names: Mapping[int, str] | None
) -> tuple[tuple[Category, ...], tuple[str, ...]]:
    """Name the rows of a class head of sigmoid scores.

    Args:
        folder: of the model, for messages.
        rows: of the class head.
        names: by row; None where nobody gave any.

    Returns:
        The categories, and remarks. If all names are COCO's, each has COCO's name and id;
        otherwise the id is the row.

    Raises:
        WeightsError: a name is of no row, or cannot be used.
    """
    names = names or {}
    beyond = [row for row in names if row >= rows]
    if beyond:
        raise WeightsError(
            f"{folder}: id2label names class {beyond[0]}, but the weights have {rows} classes."
        )
    used = {row: name for row, name in names.items() if name != NOT_USED}
    coco = {row: _coco(name) for row, name in used.items()}
    if coco and all(coco.values()) and len(set(coco.values())) == len(coco):
        found = tuple(
            Category(class_index=row, id=category.id, name=category.name)
            for row, category in sorted(coco.items())
            if category is not None
        )
        differs = any(each.id != each.class_index for each in found)
        return found, ("the names are COCO's, so COCO's ids are taken.",) if differs else ()
    named = {row: names.get(row, f"class {row}") for row in range(rows)}
    return tuple(_category(folder, row, n) for row, n in used_names(folder, named).items()), ()


def _coco(name: str) -> Category | None:
    short = name.lower().replace(" ", "")
    return _COCO.get(_SYNONYMS.get(short, short))


def _category(folder: Path, row: int, name: str) -> Category:
    try:
        return Category(class_index=row, id=row, name=name)
    except ValidationError as error:
        raise WeightsError(
            f"{folder}: id2label's name of class {row} cannot be used: {reason(error.errors()[0])}."
        ) from error
