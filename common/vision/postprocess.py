"""Turns the transformer's outputs into detections, as `PostProcess` of the official code does.

Source: `models/detr.py` of the official code.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from common.bundle import Category
from common.domain.detections import Box, Detection, DetectionOptions
from common.domain.errors import EngineError
from common.domain.frames import FrameGeometry


def detections(
    logits: np.ndarray,
    boxes: np.ndarray,
    geometry: FrameGeometry,
    categories: Tuple[Category, ...],
    options: DetectionOptions,
) -> Tuple[Detection, ...]:
    """List what the model detects in one frame.

    Each query reports its most probable class, not counting 'no object'. As in the official code,
    the classes that COCO leaves unused take part in that choice, and a query that chooses one of
    them is left out. Boxes are not clipped to the frame.

    Args:
        logits: float32 [Q,K+1]; the last column is 'no object'.
        boxes: float32 [Q,4], centre x, centre y, width, height, in 0..1 of the picture without
            its padding.
        geometry: has the frame's size; the detections' boxes are in its pixels.
        categories: the classes to report.
        options: the score threshold and the largest number of detections.

    Returns:
        Detections by decreasing score; equal scores are in the order of their queries.

    Raises:
        EngineError: the outputs are not finite, as after an overflow in half precision.
    """
    if not (np.isfinite(logits).all() and np.isfinite(boxes).all()):
        raise EngineError("the transformer's outputs are not finite")
    by_class = {category.class_index: category for category in categories}
    scores, classes = _best_class(logits)
    reported = np.isin(classes, list(by_class)) & (scores >= options.score_threshold)
    queries = np.flatnonzero(reported)
    queries = queries[np.argsort(-scores[queries], kind="stable")]
    if options.max_detections > 0:
        queries = queries[: options.max_detections]
    corners = _to_corners(boxes[queries], geometry)
    return tuple(
        Detection(by_class[index].id, by_class[index].name, score, Box(*corner))
        for index, score, corner in zip(
            classes[queries].tolist(), scores[queries].tolist(), corners.tolist()
        )
    )


def _best_class(logits: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Apply softmax to [Q,K+1]; returns probability and index [Q] of the best of the first K."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    classes = probabilities[:, :-1].argmax(axis=1)
    return probabilities[np.arange(len(classes)), classes], classes


def _to_corners(boxes: np.ndarray, geometry: FrameGeometry) -> np.ndarray:
    """Convert [n,4] from relative centre and size to the corners in the frame's pixels."""
    centre, size = boxes[:, :2], boxes[:, 2:]
    frame = np.array([geometry.frame_width, geometry.frame_height], np.float32)
    return np.concatenate([(centre - size / 2) * frame, (centre + size / 2) * frame], axis=1)
