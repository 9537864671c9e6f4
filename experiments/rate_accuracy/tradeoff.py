"""What a line of settings needs, in bytes a frame, for an AP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.domain.errors import InvalidInputError
from experiments.rate_accuracy.grid import Series


@dataclass(frozen=True)
class Point:
    """One setting's outcome.

    Attributes:
        series: its line.
        name: of the codec, or `q` and JPEG's quality, or `crf` and the video's.
        bytes_per_frame: mean of what is sent for a frame: the whole message of features, latents
            and JPEGs; the whole bit stream of videos.
        payload_bytes: mean without the message around it.
        figures: the twelve COCO figures.
        frames: pictures evaluated.
        fps: of this run; says little about the system, since making pictures is part of it.
    """

    series: Series
    name: str
    bytes_per_frame: float
    payload_bytes: float
    figures: dict[str, float]
    frames: int
    fps: float

    @property
    def ap(self) -> float:
        """COCO's main figure, 0 to 1."""
        return self.figures["AP"]


class Bound(StrEnum):
    """How a figure is to be read."""

    EXACT = "interpolated"
    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True)
class Cost:
    """Bytes a frame that a line needs for an AP; a bound where the line does not reach so far."""

    bytes_per_frame: float
    bound: Bound


def bytes_for(ap: float, line: Sequence[Point]) -> Cost:
    """Bytes a frame with which a line reaches an AP.

    Between neighbouring points AP is taken to be linear in the logarithm of the bytes. Where more
    bytes gave less AP (by chance), the point with fewer bytes counts: a sender would choose it.

    Args:
        ap: to reach.
        line: the points, in any order.

    Raises:
        InvalidInputError: the line has no points.
    """
    if not line:
        raise InvalidInputError("a line without points has no cost")
    useful = envelope(line)
    if ap > useful[-1].ap:
        return Cost(useful[-1].bytes_per_frame, Bound.AT_LEAST)
    if ap < useful[0].ap:
        return Cost(useful[0].bytes_per_frame, Bound.AT_MOST)
    above = next(index for index, point in enumerate(useful) if point.ap >= ap)
    if useful[above].ap == ap:
        return Cost(useful[above].bytes_per_frame, Bound.EXACT)
    low, high = useful[above - 1], useful[above]
    share = (ap - low.ap) / (high.ap - low.ap)
    logarithm = (1 - share) * math.log(low.bytes_per_frame) + share * math.log(high.bytes_per_frame)
    return Cost(math.exp(logarithm), Bound.EXACT)


def envelope(line: Sequence[Point]) -> list[Point]:
    """The points that no other one beats, by ascending bytes and AP."""
    useful: list[Point] = []
    for point in sorted(line, key=lambda one: (one.bytes_per_frame, -one.ap)):
        if not useful or point.ap > useful[-1].ap:
            useful.append(point)
    return useful


def lines_of(points: Sequence[Point], *series: Series) -> list[Point]:
    """The points of these lines, as they come."""
    return [point for point in points if point.series in series]


def reference_ap(points: Sequence[Point]) -> float | None:
    """AP with features that cross as they are; None if that was not measured."""
    exact = (point.ap for point in lines_of(points, Series.FEATURES) if point.name == "fp32")
    return next(exact, None)
