"""Turns the transformer's outputs into detections, as each family's own code does.

Sources: softmax, `PostProcess` in `models/detr.py` of DETR's official code; sigmoid,
`post_process_object_detection` of `RTDetrImageProcessor` in Hugging Face's transformers.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from common.bundle import Category, Scoring, SigmoidScoring
from common.domain.detections import Box, Detection, DetectionOptions
from common.domain.errors import EngineError
from common.domain.frames import FrameGeometry


def detections(
    logits: np.ndarray,
    boxes: np.ndarray,
    geometry: FrameGeometry,
    categories: Tuple[Category, ...],
    options: DetectionOptions,
    *,
    scoring: Scoring,
) -> Tuple[Detection, ...]:
    """List what the model detects in one frame.

    By softmax each query reports its most probable class, not counting 'no object'; by sigmoid the
    best of all classes of all queries are reported, so that a query may be there for each of
    several classes, or for none. As in the official code, the classes that COCO leaves unused take
    part in that choice, and what chooses one of them is left out. Boxes are not clipped to the
    frame.

    Args:
        logits: float32 [Q,K]; by softmax there is one more column, the last, for 'no object'.
        boxes: float32 [Q,4], centre x, centre y, width, height, in 0..1 of the picture without
            its padding.
        geometry: has the frame's size; the detections' boxes are in its pixels.
        categories: the classes to report.
        options: the score threshold and the largest number of detections.
        scoring: how logits become scores.

    Returns:
        Detections by decreasing score; equal scores are in the order of their queries, and then of
        their classes.

    Raises:
        EngineError: the outputs are not finite, as after an overflow in half precision.
    """
    if not (np.isfinite(logits).all() and np.isfinite(boxes).all()):
        raise EngineError("the transformer's outputs are not finite")
    by_class = {category.class_index: category for category in categories}
    if isinstance(scoring, SigmoidScoring):
        scores, queries, classes = _best_of_all(logits, scoring.top_k)
    else:
        scores, queries, classes = _best_of_each_query(logits)
    reported = np.isin(classes, list(by_class)) & (scores >= options.score_threshold)
    kept = np.flatnonzero(reported)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    if options.max_detections > 0:
        kept = kept[: options.max_detections]
    corners = _to_corners(boxes[queries[kept]], geometry)
    return tuple(
        Detection(by_class[index].id, by_class[index].name, score, Box(*corner))
        for index, score, corner in zip(
            classes[kept].tolist(), scores[kept].tolist(), corners.tolist()
        )
    )


def _best_of_all(logits: np.ndarray, count: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Apply sigmoid to [Q,K]; returns score, query and class of the best, each [at most count]."""
    # exp of the negative magnitude cannot overflow.
    small = np.exp(-np.abs(logits))
    scores = (np.where(logits >= 0, 1, small) / (1 + small)).ravel()
    best = np.argsort(-scores, kind="stable")[:count]
    queries, classes = np.divmod(best, logits.shape[1])
    return scores[best], queries, classes


def _best_of_each_query(logits: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Apply softmax to [Q,K+1]; returns score, query and class of the best of the first K."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    classes = probabilities[:, :-1].argmax(axis=1)
    queries = np.arange(len(classes))
    return probabilities[queries, classes], queries, classes


def _to_corners(boxes: np.ndarray, geometry: FrameGeometry) -> np.ndarray:
    """Convert [n,4] from relative centre and size to the corners in the frame's pixels."""
    centre, size = boxes[:, :2], boxes[:, 2:]
    frame = np.array([geometry.frame_width, geometry.frame_height], np.float32)
    return np.concatenate([(centre - size / 2) * frame, (centre + size / 2) * frame], axis=1)
