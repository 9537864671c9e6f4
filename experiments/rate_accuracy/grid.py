"""What is compared: ways to get a frame's content across the link."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.bundle import InputPolicy
from common.domain.codec import Codec
from common.domain.errors import InvalidInputError
from common.domain.placement import Placement
from tandem.evaluation.run import EvaluationPlan
from tandem.evaluation.sending import JpegSending

JPEG_QUALITIES = (95, 80, 60, 40, 30, 25, 20, 15)


class Series(StrEnum):
    """A line of the plot."""

    FEATURES = "features"
    JPEG = "jpeg"
    REDUCED_JPEG = "jpeg, reduced"


DESCRIPTIONS = {
    Series.FEATURES: "features, placement backbone",
    Series.JPEG: "JPEG of the frame, placement workstation",
    Series.REDUCED_JPEG: "JPEG of the frame at the network's size, placement workstation",
}


@dataclass(frozen=True)
class Setting:
    """One point of the plot.

    Attributes:
        series: its line.
        name: of the codec, or `q` and JPEG's quality.
        plan: how the pictures go through the system.
    """

    series: Series
    name: str
    plan: EvaluationPlan

    @property
    def key(self) -> str:
        """A name for files, different for every setting."""
        return f"{self.series.name.lower().replace('_', '-')}-{self.name}"


def settings(policy: InputPolicy) -> list[Setting]:
    """Every codec, and every quality of JPEG both as clients send it and reduced beforehand.

    A client that knows the model's input size loses nothing but bytes by reducing the frame
    itself; so that is the baseline that the features have to beat.

    Args:
        policy: input size of the model.
    """
    found = [
        Setting(Series.FEATURES, codec.value, EvaluationPlan(Placement.BACKBONE, codec))
        for codec in Codec
    ]
    for series, size in ((Series.REDUCED_JPEG, policy), (Series.JPEG, None)):
        found += [
            Setting(series, f"q{quality}", _workstation(JpegSending(quality, size)))
            for quality in JPEG_QUALITIES
        ]
    return found


def _workstation(jpeg: JpegSending) -> EvaluationPlan:
    # The features do not cross the link, so they need no codec.
    return EvaluationPlan(Placement.WORKSTATION, Codec.FP32, jpeg)


@dataclass(frozen=True)
class Point:
    """One setting's outcome.

    Attributes:
        series: its line.
        name: of the codec, or `q` and JPEG's quality.
        bytes_per_frame: mean payload on the link.
        figures: the twelve COCO figures.
        frames: pictures evaluated.
        fps: of this run; says little about the system, since reading pictures is part of it.
    """

    series: Series
    name: str
    bytes_per_frame: float
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
    useful: list[Point] = []
    for point in sorted(line, key=lambda one: (one.bytes_per_frame, -one.ap)):
        if not useful or point.ap > useful[-1].ap:
            useful.append(point)
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


def line_of(points: Sequence[Point], series: Series) -> list[Point]:
    """The points of one line, as they come."""
    return [point for point in points if point.series is series]
