"""The models and the clip that ship with the project."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.domain.detections import Box, Detection
from common.domain.errors import ConfigurationError, InvalidInputError, ServiceError

_MODELS = Path(__file__).resolve().parent.parent / "models"
_BUNDLE = "demo-r50"
# Shares of the clip's objects, at the default threshold: the least that has to be found, and the
# most that may be invented. The models find 98.0 %, 92.1 % and 84.9 % and invent 1.1 %, 3.3 % and
# 5.6 %; with red and blue exchanged they would find 95.7 %, 86.3 % and 53.9 %.
_LIMITS = {"demo-r50": (0.97, 0.02), "demo-r34": (0.91, 0.04), "demo-dfine": (0.83, 0.07)}


def shipped_bundle() -> Path:
    """Folder of the best model that ships with the project.

    Raises:
        ConfigurationError: none is here, as in an installation without the project's folder.
    """
    path = _MODELS / _BUNDLE
    if not (path / "bundle.json").is_file():
        raise ConfigurationError(f"no bundle ships in {_MODELS}: name one with --bundle")
    return path


def shipped_clip() -> Path:
    """The demo clip; `annotations.json` beside it has its objects, in COCO's format.

    Raises:
        ConfigurationError: it is not here.
    """
    return _existing("clip.mp4")


def camera_clip() -> Path:
    """The frames of the demo clip, encoded as a camera does: H.264 without B frames.

    Raises:
        ConfigurationError: it is not here.
    """
    return _existing("camera.mp4")


def _existing(name: str) -> Path:
    path = _MODELS / "demo-clip" / name
    if not path.is_file():
        raise ConfigurationError(f"the demo clip is not at {path}")
    return path


def check_clip_accuracy(model: str, clip: Tally) -> None:
    """Hold what was found in the whole clip against what the shipped model finds in it.

    Args:
        model: a bundle's name; those that do not ship are not judged.
        clip: of all frames, at the default threshold.

    Raises:
        ServiceError: too little was found, or too much invented: what ran is not the model that
            ships, or not on the pixels that it was trained for.
    """
    if model not in _LIMITS:
        return
    least_found, most_invented = _LIMITS[model]
    if clip.found < least_found * clip.objects or clip.invented > most_invented * clip.objects:
        raise ServiceError(
            f"{model} found {clip.found} of the clip's {clip.objects} objects and invented "
            f"{clip.invented}; at least {least_found:.0%} should be found and at most "
            f"{most_invented:.0%} invented"
        )


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
