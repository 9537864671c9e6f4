"""The entries of a COCO instances file: every field checked, obvious slips corrected.

Official COCO passes unchanged, with its few boxes without extent. See
docs/decisions/0017-coco-files.md for what is refused and what is not.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common.domain.errors import ConfigurationError

Say = Callable[[str], None]
"""Called with one sentence for each thing that was corrected."""

Entry = dict[str, Any]

# COCO's own boxes are up to a pixel too long.
_SLACK_PIXELS = 2.0


def read_instances(path: Path, say: Say) -> dict[str, Any]:
    """Read an instances file.

    Returns:
        Its content. In it, ids are whole numbers, no two of a kind the same; every image has a
        `file_name`; every annotation has `image_id` and `category_id` of listed ones, `bbox` (x, y,
        width, height, finite), `area` and `iscrowd`; every category has a `name`.

    Raises:
        ConfigurationError: it cannot be read, or an entry is wrong, which is named.
    """
    content = _read_json(path)
    images = _images(path, content)
    categories = [
        _category(path, at, entry) for at, entry in enumerate(_listed(path, content, "categories"))
    ]
    if not categories:
        raise ConfigurationError(f"{path} lists no categories.")
    known = _unique(path, "category", categories)
    _refuse_repeated_names(path, categories)
    entries = _listed(path, content, "annotations")
    if not entries:
        raise ConfigurationError(f"{path} lists no annotations, so there is nothing to find.")
    annotations = [_annotation(path, at, entry, images, known) for at, entry in enumerate(entries)]
    annotations = _with_extent(path, annotations, say)
    if all(one["iscrowd"] for one in annotations):
        raise ConfigurationError(f"{path} marks crowds only, so there is nothing to find.")
    _judge_reach(path, annotations, images, say)
    _fill_areas(path, annotations, say)
    _renumber(path, annotations, say)
    return {
        **content,
        "images": list(images.values()),
        "categories": categories,
        "annotations": annotations,
    }


def read_pictures(path: Path) -> list[Entry]:
    """Return the images that a file lists, by ascending id, whether or not it has annotations.

    Raises:
        ConfigurationError: as `read_instances`, for the images.
    """
    return by_id(_images(path, _read_json(path)).values())


def by_id(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries by ascending id."""
    return sorted(entries, key=lambda entry: int(entry["id"]))


def _images(path: Path, content: dict[str, Any]) -> dict[int, Entry]:
    entries = _listed(path, content, "images")
    if not entries:
        raise ConfigurationError(f"{path} lists no images.")
    return _unique(path, "image", [_image(path, at, entry) for at, entry in enumerate(entries)])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        # Some editors begin a file with a byte order mark.
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} is not a COCO instances file: it is not JSON ({error})."
        ) from error
    if isinstance(content, list):
        raise ConfigurationError(
            f"{path} is not a COCO instances file but a list, as results are; it has to have "
            "images, annotations and categories."
        )
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} is not a COCO instances file.")
    return content


def _listed(path: Path, content: dict[str, Any], key: str) -> list[Any]:
    found = content.get(key)
    if not isinstance(found, list):
        raise ConfigurationError(
            f"{path} is not a COCO instances file: it has no list called {key}."
        )
    return found


def _image(path: Path, at: int, entry: Any) -> Entry:
    where = f"{path}: image {_named(entry, at)}"
    fields = _fields(where, entry)
    name = fields.get("file_name")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{where} has no file_name.")
    checked = {**fields, "id": _whole(where, fields, "id")}
    for side in ("width", "height"):
        if fields.get(side) is not None:
            checked[side] = _whole(where, fields, side)
            if not 1 <= checked[side] < 2**31:
                raise ConfigurationError(f"{where} has the {side} {_shown(checked[side])}.")
    return checked


def _category(path: Path, at: int, entry: Any) -> Entry:
    where = f"{path}: category {_named(entry, at)}"
    fields = _fields(where, entry)
    name = fields.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"{where} has no name.")
    return {**fields, "id": _whole(where, fields, "id"), "name": name.strip()}


def _annotation(
    path: Path, at: int, entry: Any, images: dict[int, Entry], categories: dict[int, Entry]
) -> Entry:
    where = f"{path}: annotation {_named(entry, at)}"
    fields = _fields(where, entry)
    owner, category = _whole(where, fields, "image_id"), _whole(where, fields, "category_id")
    if owner not in images:
        raise ConfigurationError(f"{where} is of image {owner}, which is not listed.")
    if category not in categories:
        raise ConfigurationError(f"{where} is of category {category}, which is not listed.")
    crowd = fields.get("iscrowd", 0)
    if crowd not in (0, 1, None) or isinstance(crowd, float):
        raise ConfigurationError(f"{where} has the iscrowd {crowd!r}, which is neither 0 nor 1.")
    checked = {
        **fields,
        "image_id": owner,
        "category_id": category,
        "bbox": _box(where, fields.get("bbox"), images[owner]),
        "iscrowd": int(bool(crowd)),
    }
    if fields.get("id") is not None:
        checked["id"] = _whole(where, fields, "id")
    area = fields.get("area")
    if area is not None and (not _finite(area) or area < 0):
        raise ConfigurationError(f"{where} has the area {area!r}, which is no size.")
    return checked


def _box(where: str, box: Any, image: Entry) -> list[float]:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, box)):
        raise ConfigurationError(
            f"{where} has the bbox {_shown(box)}, which is not x, y, width, height in numbers."
        )
    x, y, width, height = map(float, box)
    if width < 0 or height < 0:
        raise ConfigurationError(f"{where} has a bbox of size {width:g} x {height:g}.")
    columns, rows = image.get("width"), image.get("height")
    if columns is None or rows is None:
        columns = rows = math.inf
    if x > columns or y > rows or x + width < 0 or y + height < 0:
        raise ConfigurationError(
            f"{where} has the bbox {_shown(box)}, which lies outside of its image of "
            f"{columns} x {rows} pixels."
        )
    return [x, y, width, height]


def _unique(path: Path, kind: str, entries: list[Entry]) -> dict[int, Entry]:
    found: dict[int, Entry] = {}
    for entry in entries:
        if entry["id"] in found:
            raise ConfigurationError(f"{path} lists {kind} {entry['id']} twice.")
        found[entry["id"]] = entry
    return found


def _refuse_repeated_names(path: Path, categories: list[Entry]) -> None:
    name, count = Counter(entry["name"] for entry in categories).most_common(1)[0]
    if count > 1:
        raise ConfigurationError(f"{path} has {count} categories called {name!r}.")


def _with_extent(path: Path, annotations: list[Entry], say: Say) -> list[Entry]:
    """Leave out boxes without extent, which nobody can find; COCO's own training set has two."""
    kept = [one for one in annotations if one["bbox"][2] > 0 and one["bbox"][3] > 0]
    if not kept:
        raise ConfigurationError(f"{path}: no box has any extent.")
    if len(kept) < len(annotations):
        say(
            f"{path}: {len(annotations) - len(kept)} of {len(annotations)} boxes have no extent "
            "and are left out."
        )
    return kept


def _judge_reach(path: Path, annotations: list[Entry], images: dict[int, Entry], say: Say) -> None:
    beyond = [one for one in annotations if _reaches_beyond(one["bbox"], images[one["image_id"]])]
    if len(beyond) > len(annotations) / 2 and all(
        _fits_as_corners(one["bbox"], images[one["image_id"]]) for one in annotations
    ):
        raise ConfigurationError(
            f"{path}: {len(beyond)} of {len(annotations)} boxes reach beyond their images, and all "
            "would fit as two corners; a bbox is x, y, width, height, in pixels."
        )
    if beyond:
        say(
            f"{path}: {len(beyond)} of {len(annotations)} boxes reach beyond their images; "
            "training clips them, evaluation takes them as they are."
        )


def _fits_as_corners(box: list[float], image: Entry) -> bool:
    x_min, y_min, x_max, y_max = box
    width, height = image.get("width"), image.get("height")
    if width is None or height is None:
        return False
    limits = (width + _SLACK_PIXELS, height + _SLACK_PIXELS)
    return bool(x_min <= x_max <= limits[0] and y_min <= y_max <= limits[1])


def _reaches_beyond(box: list[float], image: Entry) -> bool:
    if image.get("width") is None or image.get("height") is None:
        return False
    x, y, width, height = box
    over = max(-x, -y, x + width - image["width"], y + height - image["height"])
    return bool(over > _SLACK_PIXELS)


def _fill_areas(path: Path, annotations: list[Entry], say: Say) -> None:
    without = [entry for entry in annotations if entry.get("area") is None]
    for entry in without:
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    if without:
        say(
            f"{path}: {len(without)} of {len(annotations)} annotations have no area; that of the "
            "box is taken."
        )


def _renumber(path: Path, annotations: list[Entry], say: Say) -> None:
    """Number annotations anew if their ids repeat or are missing; nothing refers to these ids."""
    ids = [entry.get("id") for entry in annotations]
    absent = ids.count(None)
    repeated = len(ids) - absent - len(set(ids) - {None})
    if absent or repeated:
        for number, entry in enumerate(annotations, start=1):
            entry["id"] = number
        reason = f"{repeated} annotation ids are not unique" if repeated else ""
        lack = f"{absent} annotations have no id" if absent else ""
        say(f"{path}: {' and '.join(filter(None, (reason, lack)))}; all are numbered anew.")


def _fields(where: str, entry: Any) -> Entry:
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{where} is {_shown(entry)}, not an object with fields.")
    return entry


def _named(entry: Any, position: int) -> str:
    """Name an entry by its id if it has one, else by its position."""
    if isinstance(entry, dict) and isinstance(entry.get("id"), (int, float, str)):
        return _shown(entry["id"])
    return f"at position {position}"


def _whole(where: str, fields: Entry, key: str) -> int:
    """Return a whole number of any size; 7.0 counts as 7."""
    value = fields.get(key)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        what = f"has no {key}" if value is None else f"has the {key} {_shown(value)}"
        raise ConfigurationError(f"{where} {what}; it has to be a whole number.")
    return value


def _finite(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    # Beyond that no box is one of pixels, and sums overflow.
    return abs(value) < 1e9 and not math.isnan(value)


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or value.bit_length() < 1000 else "too large"
    return text if len(text) <= 60 else f"{text[:57]}..."
