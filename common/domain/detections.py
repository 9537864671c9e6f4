"""What the model says about a frame."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_SCORE_THRESHOLD = 0.7
"""Detections below this score are left out unless a client asks for more of them, or for fewer."""


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in pixels of the frame, origin at the top left, `x_min <= x_max`."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True)
class Detection:
    """One object.

    Attributes:
        category_id: COCO id of the category.
        category_name: its name.
        score: probability of the category, 0 to 1.
        box: where it is.
    """

    category_id: int
    category_name: str
    score: float
    box: Box


@dataclass(frozen=True)
class DetectionOptions:
    """What a client wants to be told.

    Attributes:
        score_threshold: detections below this score are left out, 0 to 1.
        max_detections: at most this many a frame, the highest scores first; 0 means all.
    """

    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    max_detections: int = 0
