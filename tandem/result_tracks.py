"""Tracks in results: of a model in this process, and over streams that had to begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from common.domain.detections import Detection, DetectionOptions
from common.tracking import Tracker, asked_threshold
from tandem.results import FrameResult


class ResultTracks:
    """Follows the objects of one stream that is served in this process.

    Attributes:
        options: what to detect by: detections of low scores as well, which the tracker needs.
    """

    def __init__(self, wanted: DetectionOptions) -> None:
        """Follow nothing yet.

        Args:
            wanted: what the caller asked for.

        Raises:
            PreconditionError: the library for tracks is not installed.
        """
        self._wanted = wanted
        self._tracker = Tracker(wanted.score_threshold)
        self.options = DetectionOptions(asked_threshold(wanted.score_threshold), 0)

    def added(self, results: Iterator[FrameResult]) -> Iterator[FrameResult]:
        """Add tracks to results, and take out what the caller did not ask for."""
        for result in results:
            yield result if result.error else replace(result, detections=self._followed(result))

    def _followed(self, result: FrameResult) -> tuple[Detection, ...]:
        threshold = float(np.float32(self._wanted.score_threshold))
        numbers = self._tracker.follow(result.detections)
        found = tuple(
            replace(detection, track_id=number)
            for detection, number in zip(result.detections, numbers, strict=True)
            if detection.score >= threshold
        )
        return found[: self._wanted.max_detections or None]


class TrackNumbers:
    """Keeps the numbers of tracks apart where one stream follows upon another.

    Whoever follows the objects begins again with 1; to the caller it is one stream.
    """

    def __init__(self) -> None:
        """Begin with the first stream."""
        self._before = 0
        self._highest = 0

    def stream_lost(self) -> None:
        """What comes from now on is another stream's."""
        self._before = self._highest

    def of(self, detections: tuple[Detection, ...]) -> tuple[Detection, ...]:
        """The same detections, with numbers that no earlier stream had."""
        numbers = [one.track_id for one in detections if one.track_id is not None]
        self._highest = max([self._highest, *(self._before + number for number in numbers)])
        if not self._before:
            return detections
        return tuple(
            one if one.track_id is None else replace(one, track_id=self._before + one.track_id)
            for one in detections
        )
