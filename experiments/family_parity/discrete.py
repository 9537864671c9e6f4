"""How far discrete sampling is from the default, with the same random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.vision.preprocess import preprocess
from detr.families.base import SplitModel
from detr.families.importing import DEFAULT_SAMPLING, import_family
from detr.families.proposals import Found, detect, detect_with
from detr.families.published import PUBLISHED
from detr.families.registry import family_of
from detr.families.sizes import traced_size


def difference_from_default(name: str, split: SplitModel) -> dict[str, float]:
    """Compare at a frame of noise, given the proposals of the default.

    Args:
        name: of the size.
        split: the model with discrete sampling.

    Returns:
        By query, how far its box (of centre and size, the most) and its logits (the most) move: of
        half of the queries at least so far, and the largest.
    """
    config = PUBLISHED[name]
    default = import_family(
        family_of(config), Path(), config, sampling=DEFAULT_SAMPLING, random=True
    ).split
    height, width = traced_size(split.preparation)
    rgb = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    pixels, _ = preprocess(rgb, split.preparation.input, split.preparation.normalization)
    padding = np.zeros((1, height, width), bool)
    expected, proposals = detect(default.whole, pixels, padding)
    outputs, _ = detect_with(split.whole, pixels, padding, Found(expected, proposals))
    logits, boxes = (
        np.abs(one - other).max(axis=2) for one, other in zip(outputs, expected, strict=True)
    )
    pixels_moved = boxes * max(height, width)
    return {
        "median_box_pixels": float(np.median(pixels_moved)),
        "largest_box_pixels": float(pixels_moved.max()),
        "median_logit": float(np.median(logits)),
        "largest_logit": float(logits.max()),
    }
