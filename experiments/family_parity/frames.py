"""A frame at which rounding decides nothing, so that services can be compared with transformers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.bundle import InputPolicy, ShortestEdgeInput
from common.vision.preprocess import preprocess
from detr.errors import ExportError
from detr.families.base import SplitModel
from detr.families.graphs import with_position
from detr.families.proposals import Halves, detect, detect_with

Row = tuple[Any, float, list[float]]
"""Category, score, and box: x_min, y_min, x_max, y_max in pixels."""
TOP = 100
"""As many of the best detections are compared."""
LEAST_GAP = 2e-5
"""Between the logits of two detections; engines differ by less than that."""
# RT-DETRv2 R50's best 101 of 24,000 scores are that far apart at one frame in 43.
_MOST_FRAMES = 400
# A frame of this size is resized to DETR's own 800 x 1066.
_DETR_FRAME = (480, 640)


@dataclass(frozen=True)
class StableFrame:
    """A frame of noise, and what transformers makes of it.

    Attributes:
        rgb: its pixels, uint8 [H,W,3].
        seed: of the noise; also how many frames were passed over.
        expected: transformers' detections by the categories' names, best first.
    """

    rgb: NDArray[np.uint8]
    seed: int
    expected: list[Row]


class _Rounding(Enum):
    """What rounding decides at a frame that is passed over."""

    PROPOSALS = "the graph and the model choose other proposals"
    ORDER = f"two of the best {TOP + 1} scores are nearer than {LEAST_GAP:.0e}"


def stable_frame(
    split: SplitModel, halves: Halves, names: Mapping[int, str], most_frames: int = _MOST_FRAMES
) -> StableFrame:
    """Find a frame for which both choose the same proposals, and whose best scores are apart.

    Args:
        split: with transformers' model as the whole one.
        halves: of the same model, exported.
        names: of the categories, by the row of the class head.
        most_frames: that are tried.

    Raises:
        ExportError: there is none; it tells at how many frames rounding decides what.
    """
    passed_over: Counter[_Rounding] = Counter()
    for seed in range(most_frames):
        rgb = _noise(split.preparation.input, seed)
        expected = _expected(split, halves, rgb, names)
        if not isinstance(expected, _Rounding):
            return StableFrame(rgb, seed, expected)
        passed_over[expected] += 1
    reasons = ", ".join(f"{reason.value} at {count}" for reason, count in passed_over.items())
    raise ExportError(f"rounding decides at each of {most_frames} frames: {reasons}")


def _noise(policy: InputPolicy, seed: int) -> NDArray[np.uint8]:
    size = _DETR_FRAME if isinstance(policy, ShortestEdgeInput) else (policy.height, policy.width)
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def _expected(
    split: SplitModel, halves: Halves, rgb: NDArray[np.uint8], names: Mapping[int, str]
) -> list[Row] | _Rounding:
    """The model's detections, or what keeps them from being compared."""
    preparation = split.preparation
    pixels, _ = preprocess(rgb, preparation.input, preparation.normalization)
    padding = np.zeros((1, *pixels.shape[2:]), bool)

    def named(outputs: Sequence[NDArray[np.float32]]) -> list[Row]:
        rows = _post_process(split.family, outputs, rgb.shape[:2])
        # Rows of the class head that stand for nothing are never reported.
        return [(names[row], score, box) for row, score, box in rows if row in names]

    outputs, own = detect(split.whole, pixels, padding)
    rows = named(outputs)
    if not halves.reads_cells and not is_ordered(rows):
        # Before the graph is run, since most frames end here.
        return _Rounding.ORDER
    found = halves.detect(with_position(split, halves.levels(pixels), padding))
    if not are_same(split.family, found.proposals, own):
        return _Rounding.PROPOSALS
    if halves.reads_cells:
        # At no frame does rounding decide none of so many.
        rows = named(detect_with(split.whole, pixels, padding, found)[0])
    return rows if is_ordered(rows) else _Rounding.ORDER


def are_same(family: str, one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> bool:
    """Whether these are the same proposals, so that the decoder says the same of them.

    Their order matters to RF-DETR alone, whose queries are learned rank by rank.
    """
    if one is None or other is None:
        return one is other
    if family == "rf_detr":
        return np.array_equal(one, other)
    return np.array_equal(np.sort(one), np.sort(other))


def is_ordered(rows: list[Row]) -> bool:
    """Whether the best scores are further apart than rounding moves them."""
    logits = logit([score for _, score, _ in rows[: TOP + 1]])
    return bool((np.diff(-logits) > LEAST_GAP).all())


def logit(scores: Sequence[float]) -> NDArray[np.float64]:
    """The logits of scores above 0 and below 1."""
    values = np.array(scores, np.float64)
    return np.log(values / (1 - values))


def _post_process(
    family: str, outputs: Sequence[NDArray[np.float32]], size: tuple[int, ...]
) -> list[Row]:
    """Apply transformers' own; rows of class, score and box, best first."""
    from transformers.models.conditional_detr import image_processing_pil_conditional_detr
    from transformers.models.detr import image_processing_pil_detr
    from transformers.models.rt_detr import image_processing_pil_rt_detr

    processors: dict[str, Any] = {
        "detr": image_processing_pil_detr.DetrImageProcessorPil,
        "conditional_detr": image_processing_pil_conditional_detr.ConditionalDetrImageProcessorPil,
    }
    # RF-DETR's own computes the same as RT-DETR's, and imports torchvision.
    processor = processors.get(family, image_processing_pil_rt_detr.RTDetrImageProcessorPil)()
    logits, boxes = map(torch.from_numpy, outputs)
    (found,) = processor.post_process_object_detection(
        SimpleNamespace(logits=logits, pred_boxes=boxes), threshold=0.0, target_sizes=[size]
    )
    parts = (found[name].tolist() for name in ("labels", "scores", "boxes"))
    # DETR's are in the order of the queries.
    return sorted(zip(*parts, strict=True), key=lambda row: -row[1])
