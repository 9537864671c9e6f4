"""Which objects are before one camera: when each appeared, and when it left.

Pure: times are given, and nothing is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from common.domain.detections import Box, Detection

# A detection of one frame alone may be none: an object has appeared once it was found so often.
_CERTAIN_SIGHTINGS = 3
# It has left when it was not found for so long, and in none of so many frames: a camera of one
# frame a second misses an object in one frame at times.
_GONE_SECONDS = 3.0
_GONE_FRAMES = 3
# How often, and for which changes, an object that stays is told again.
_UPDATE_SECONDS = 1.0
_MOVED_OVERLAP = 0.8
_BETTER_SCORE = 0.05


def label_of(found: Detection) -> str:
    """What an object is called; a model may have no name for a category."""
    return found.category_name or f"category {found.category_id}"


class EventKind(StrEnum):
    """What happened to an object; the words are Frigate's."""

    APPEARED = "new"
    CHANGED = "update"
    LEFT = "end"


@dataclass(frozen=True)
class SeenObject:
    """One object, as long as it is before the camera.

    Attributes:
        track_id: its number, of this camera.
        label: name of its category.
        score: of its latest detection.
        top_score: the highest so far.
        box: where it was seen last, in pixels of the frame.
        started_at_seconds: when it was seen first, in seconds since 1970.
        seen_at_seconds: when it was seen last, likewise.
        ended_at_seconds: when it was known to have left, likewise; None while it is there.
    """

    track_id: int
    label: str
    score: float
    top_score: float
    box: Box
    started_at_seconds: float
    seen_at_seconds: float
    ended_at_seconds: float | None = None


@dataclass(frozen=True)
class ObjectEvent:
    """What happened to an object.

    Attributes:
        kind: what it was.
        camera: before which it happened.
        before: the object as it was told last; as it is now if it has just appeared.
        after: as it is now.
    """

    kind: EventKind
    camera: str
    before: SeenObject
    after: SeenObject


@dataclass
class _Presence:
    now: SeenObject
    told: SeenObject | None = None
    sightings: int = 1
    frames_missed: int = 0

    @property
    def is_worth_telling(self) -> bool:
        """Whether it has changed since it was told last."""
        if self.told is None or self.now.seen_at_seconds - self.told.seen_at_seconds < (
            _UPDATE_SECONDS
        ):
            return False
        is_better = self.now.top_score >= self.told.top_score + _BETTER_SCORE
        return is_better or _overlap(self.now.box, self.told.box) < _MOVED_OVERLAP


class CameraObjects:
    """The objects before one camera."""

    def __init__(self, camera: str) -> None:
        """There are none; `camera` is its name."""
        self._camera = camera
        self._present: dict[int, _Presence] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """How many objects of each category are there, by its name."""
        return Counter(each.now.label for each in self._present.values() if each.told)

    def look(self, detections: Iterable[Detection], at_seconds: float) -> list[ObjectEvent]:
        """Take over what was found in the next frame; detections without a track are left out."""
        events = []
        for each in self._present.values():
            each.frames_missed += 1
        for detection in detections:
            if detection.track_id is not None:
                events += self._sighted(detection.track_id, detection, at_seconds)
        return events + self.pass_time(at_seconds)

    def pass_time(self, at_seconds: float) -> list[ObjectEvent]:
        """Find out which objects have left by now."""
        return self._end(
            [
                number
                for number, each in self._present.items()
                if at_seconds - each.now.seen_at_seconds >= _GONE_SECONDS
                and each.frames_missed >= _GONE_FRAMES
            ],
            at_seconds,
        )

    def lose(self, at_seconds: float) -> list[ObjectEvent]:
        """The camera shows nothing any more: nobody knows of any object."""
        return self._end(list(self._present), at_seconds)

    def _sighted(self, number: int, found: Detection, at_seconds: float) -> list[ObjectEvent]:
        each = self._present.get(number)
        if each is None:
            seen = SeenObject(
                track_id=number,
                label=label_of(found),
                score=found.score,
                top_score=found.score,
                box=found.box,
                started_at_seconds=at_seconds,
                seen_at_seconds=at_seconds,
            )
            self._present[number] = _Presence(seen)
            return []
        each.sightings += 1
        each.frames_missed = 0
        each.now = replace(
            each.now,
            score=found.score,
            top_score=max(each.now.top_score, found.score),
            box=found.box,
            seen_at_seconds=at_seconds,
        )
        if each.told is None:
            is_certain = each.sightings >= _CERTAIN_SIGHTINGS
            return self._tell(each, EventKind.APPEARED) if is_certain else []
        return self._tell(each, EventKind.CHANGED) if each.is_worth_telling else []

    def _end(self, numbers: list[int], at_seconds: float) -> list[ObjectEvent]:
        events = []
        for number in numbers:
            each = self._present.pop(number)
            each.now = replace(each.now, ended_at_seconds=at_seconds)
            if each.told is not None:
                events += self._tell(each, EventKind.LEFT)
        return events

    def _tell(self, each: _Presence, kind: EventKind) -> list[ObjectEvent]:
        before, each.told = each.told or each.now, each.now
        return [ObjectEvent(kind, self._camera, before, each.now)]


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    shared = max(0.0, width) * max(0.0, height)
    union = _area(one) + _area(other) - shared
    return shared / union if union > 0 else 1.0


def _area(box: Box) -> float:
    return (box.x_max - box.x_min) * (box.y_max - box.y_min)
