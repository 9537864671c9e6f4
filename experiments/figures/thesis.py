"""What the thesis published, chapters 3 and 4; its bar charts give no numbers, its text does.

S. Titarsolej, "End-to-End Object Detection with Transformers on Edge Devices", bachelor thesis,
University of Amsterdam, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.domain.placement import Placement

DEVICES = "Jetson TX2 and a workstation with an RTX 2070 Super"

SECONDS_A_FRAME = {
    ("R50", Placement.FULL): 0.040,
    ("R50", Placement.BACKBONE): 0.033,
    ("R34", Placement.FULL): 0.031,
    ("R34", Placement.BACKBONE): 0.024,
}
"""Chapter 4, by backbone and configuration; the link counts there "as latency": it is left out."""

BACKBONE_SECONDS = {"R50": 0.021, "R34": 0.012}
"""Chapter 4: the backbone alone on the TX2."""


@dataclass(frozen=True)
class TableRow:
    """A line of table 3.1."""

    model: str
    parameters: str
    ap: str


TABLE_3_1 = (
    TableRow("DETR-R50", "49.2M", "42.0"),
    TableRow("DETR-R34 (distilled)", "46.8M", "41.2"),
)


def frames_per_second(model: str, placement: Placement) -> float | None:
    """One over the time of a frame; None where the thesis gives none in its text."""
    seconds = SECONDS_A_FRAME.get((model, placement))
    return None if seconds is None else 1 / seconds
