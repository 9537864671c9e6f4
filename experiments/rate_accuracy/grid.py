"""What is compared: ways to get a frame's content across the link."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.bundle import InputPolicy
from common.domain.codec import Codec
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
