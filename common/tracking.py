"""Which detection is which object: tracks over the frames of one stream.

The association is ByteTrack's (Zhang et al., 2022, https://arxiv.org/abs/2110.06864), by the
package `edgefirst-tracker`: detections with high scores are matched to tracks first, then those
with low scores to the tracks that are left. `docs/decisions/0039-tracks-and-events.md` tells what
stands around it here, and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Protocol, Sequence

import numpy as np

from common.domain.errors import PreconditionError

if TYPE_CHECKING:
    from edgefirst.tracker import ByteTrack

LOWEST_SCORE = 0.1
"""What ByteTrack's second pass may match: a tracker has to be shown detections of this score."""

LOST_AFTER_FRAMES = 30
"""A track ends when its object was found in none of so many frames, as ByteTrack has it."""

# No track begins with less, however low a threshold the caller has.
_LEAST_BEGINNING_SCORE = 0.3
# A detection and a track of the same category belong together only above this.
_LEAST_OVERLAP = 0.1
# DETR has no suppression of its own: of two boxes that overlap more, the lower score is the same
# object again.
_DUPLICATE_OVERLAP = 0.7
# The assignment takes time by the cube of a category's tracks, so that they are limited: 64 take
# well under a millisecond.
_MOST_TRACKS = 64
_MOST_CANDIDATES = 256
# Beyond any frame. Numbers whose squares overflow would make an overlap of nothing.
_MOST_PIXELS = 1e6


class Corners(Protocol):
    """A box in pixels; a `Box` of the wire or of `common.domain`."""

    @property
    def x_min(self) -> float:
        """Left."""

    @property
    def y_min(self) -> float:
        """Top."""

    @property
    def x_max(self) -> float:
        """Right."""

    @property
    def y_max(self) -> float:
        """Bottom."""


class Sighting(Protocol):
    """One detection of one frame; a `Detection` of the wire or of `common.domain`."""

    @property
    def category_id(self) -> int:
        """Id of its category."""

    @property
    def score(self) -> float:
        """Probability of the category, 0 to 1."""

    @property
    def box(self) -> Any:
        """Its `Corners`."""


def asked_threshold(score_threshold: float) -> float:
    """The threshold to detect by, so that a tracker sees what a client's own threshold hides."""
    return min(score_threshold, LOWEST_SCORE)


class Tracker:
    """Numbers the objects of one stream, from 1; no number is used twice.

    It is shown the frames that were looked at, in their order. A frame without an answer, dropped
    or failed, says nothing about objects, and leaves all tracks as they are. A track has one
    category: an object that is taken for another is followed as another.
    """

    def __init__(self, score_threshold: float) -> None:
        """Follow nothing yet.

        Args:
            score_threshold: a track begins with a detection of this score, and at least of 0.3.

        Raises:
            PreconditionError: the tracking library is not installed.
        """
        self._tracker_class = _tracker_class()
        self._beginning_score = float(np.float32(max(score_threshold, _LEAST_BEGINNING_SCORE)))
        self._categories: Dict[int, _CategoryTracks] = {}
        self._frames = 0
        self._latest_id = 0

    def follow(self, sightings: Sequence[Sighting]) -> List[Optional[int]]:
        """Find out which object each detection of the next frame shows.

        Args:
            sightings: all that was detected, with scores from `LOWEST_SCORE`; finite numbers.

        Returns:
            The number of each one's track; None where it belongs to none.
        """
        self._frames += 1
        found: List[Optional[int]] = [None] * len(sightings)
        by_category: Dict[int, List[int]] = {}
        likely = [at for at, one in enumerate(sightings) if one.score >= LOWEST_SCORE]
        likely.sort(key=lambda at: -sightings[at].score)
        for at in likely[:_MOST_CANDIDATES]:
            by_category.setdefault(sightings[at].category_id, []).append(at)
        for category in {*by_category, *self._categories}:
            places = by_category.get(category, [])
            boxes = _boxes([sightings[at] for at in places])
            kept = _without_duplicates(boxes)
            scores = np.array([sightings[places[each]].score for each in kept], np.float32)
            for each, track_id in zip(kept, self._followed(category, boxes[kept], scores)):
                found[places[each]] = track_id
        return found

    def forget(self) -> None:
        """End all tracks: so much time has passed that nobody can tell what became of them."""
        self._categories.clear()

    def _followed(
        self, category: int, boxes: np.ndarray, scores: np.ndarray
    ) -> List[Optional[int]]:
        tracks = self._categories.get(category)
        if tracks is None:
            if not (scores >= self._beginning_score).any():
                return [None] * len(scores)
            tracks = _CategoryTracks(self._tracker_class, self._beginning_score)
            self._categories[category] = tracks
        found: List[Optional[int]] = []
        for name in tracks.update(boxes, scores, self._frames):
            if name is not None and name not in tracks.numbers:
                self._latest_id += 1
                tracks.numbers[name] = self._latest_id
            found.append(None if name is None else tracks.numbers[name])
        if not tracks.seen:
            del self._categories[category]
        return found


class _CategoryTracks:
    """The tracks of one category.

    Attributes:
        numbers: of each track, by the library's own name.
        seen: the frame that each track was last found in.
    """

    def __init__(self, tracker_class: type[ByteTrack], beginning_score: float) -> None:
        self._beginning_score = beginning_score
        self._tracker = tracker_class(
            high_conf=beginning_score,
            iou=_LEAST_OVERLAP,
            # The whole of what the filter takes from a detection: frames may be far apart.
            update=1.0,
            lifespan_ns=LOST_AFTER_FRAMES,
        )
        self.numbers: Dict[str, int] = {}
        self.seen: Dict[str, int] = {}

    def update(self, boxes: np.ndarray, scores: np.ndarray, frame: int) -> List[Optional[str]]:
        """The track of each box, [n,4] with n scores, in frame number `frame`."""
        # What finds no room can continue a track, and begins none.
        room = max(0, _MOST_TRACKS - len(self.seen))
        scores[room:] = np.minimum(scores[room:], np.float32(self._beginning_score * 0.999))
        boxes, scores = boxes[:_MOST_TRACKS], scores[:_MOST_TRACKS]
        labels = np.zeros(len(scores), np.uintp)
        # Its clock counts frames.
        answers = self._tracker.update(boxes, scores, labels, frame)
        names = [None if each is None else each.uuid for each in answers]
        for name in names:
            if name is not None:
                self.seen[name] = frame
        for name in [each for each, at in self.seen.items() if at + LOST_AFTER_FRAMES < frame]:
            del self.seen[name], self.numbers[name]
        return names


def _tracker_class() -> type[ByteTrack]:
    try:
        from edgefirst.tracker import ByteTrack
    except ImportError as error:
        raise PreconditionError(
            "tracks need the package edgefirst-tracker, which is not installed here"
        ) from error
    return ByteTrack


def _boxes(sightings: Sequence[Sighting]) -> np.ndarray:
    """Corners within bounds, [n,4]."""
    corners = [(one.box.x_min, one.box.y_min, one.box.x_max, one.box.y_max) for one in sightings]
    boxes = np.array(corners, np.float32).reshape(-1, 4)
    return np.clip(boxes, -_MOST_PIXELS, _MOST_PIXELS)


def _without_duplicates(boxes: np.ndarray) -> List[int]:
    """Which boxes, the highest scores first, are no other one's duplicate."""
    if len(boxes) < 2:
        return list(range(len(boxes)))
    left_top = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(right_bottom - left_top, 0, None).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    same = shared > _DUPLICATE_OVERLAP * (areas[:, None] + areas[None, :] - shared)
    kept: List[int] = []
    for at in range(len(boxes)):
        if not same[at, kept].any():
            kept.append(at)
    return kept
