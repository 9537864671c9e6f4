"""Detections against the truth: which objects were found, and what was invented."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.domain.detections import Box, Detection
from common.domain.errors import InvalidInputError

# COCO's lenient threshold, AP50's: half of the union is shared.
MATCH_IOU = 0.5


@dataclass(frozen=True)
class TrueObject:
    """An object that is there."""

    category_id: int
    box: Box


@dataclass(frozen=True)
class FrameMatch:
    """How a frame's detections compare with its objects.

    Attributes:
        found: objects with a detection of their own.
        missed: objects without.
        invented: detections without an object: second ones of the same object included.
    """

    found: int
    missed: int
    invented: int

    @property
    def perfect(self) -> bool:
        """Every object found and nothing invented."""
        return self.missed == 0 and self.invented == 0


@dataclass(frozen=True)
class Tally:
    """How the detections of many frames compare with their objects."""

    found: int
    missed: int
    invented: int
    frames: int
    perfect_frames: int

    @property
    def objects(self) -> int:
        """How many there are."""
        return self.found + self.missed


def tally(matches: Iterable[FrameMatch]) -> Tally:
    """Add frames up."""
    every = tuple(matches)
    return Tally(
        found=sum(one.found for one in every),
        missed=sum(one.missed for one in every),
        invented=sum(one.invented for one in every),
        frames=len(every),
        perfect_frames=sum(one.perfect for one in every),
    )


def match_frame(detections: Iterable[Detection], objects: Sequence[TrueObject]) -> FrameMatch:
    """Give each detection, the highest score first, the free object that it overlaps most.

    Only an object of its category counts, at an intersection over union of at least `MATCH_IOU`;
    this is COCO's matching at that one threshold.
    """
    free = list(objects)
    found = invented = 0
    for detection in sorted(detections, key=lambda one: -one.score):
        candidates = [one for one in free if one.category_id == detection.category_id]
        best = max(candidates, key=lambda one: iou(one.box, detection.box), default=None)
        if best is not None and iou(best.box, detection.box) >= MATCH_IOU:
            free.remove(best)
            found += 1
        else:
            invented += 1
    return FrameMatch(found, len(free), invented)


def iou(one: Box, other: Box) -> float:
    """Intersection over union; 0 if both boxes are empty."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    shared = max(0.0, width) * max(0.0, height)
    union = _area(one) + _area(other) - shared
    return shared / union if union > 0 else 0.0


def load_objects(annotations: Path) -> dict[int, list[TrueObject]]:
    """Objects by image id, from a file in COCO's format; crowds are left out.

    Raises:
        InvalidInputError: it is not such a file.
    """
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
        objects: dict[int, list[TrueObject]] = {image["id"]: [] for image in content["images"]}
        for one in content["annotations"]:
            if not one.get("iscrowd"):
                left, top, width, height = one["bbox"]
                box = Box(left, top, left + width, top + height)
                objects[one["image_id"]].append(TrueObject(one["category_id"], box))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{annotations} has no COCO annotations: {error}") from error
    return objects


def _area(box: Box) -> float:
    return (box.x_max - box.x_min) * (box.y_max - box.y_min)
