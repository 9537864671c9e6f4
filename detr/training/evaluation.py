"""Average precision of a torch model by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from common.bundle import Category, InputPolicy, Normalization
from common.domain.detections import Detection, DetectionOptions
from common.domain.frames import FrameGeometry
from common.vision.postprocess import detections
from common.vision.preprocess import preprocess
from detr.model import DETR
from detr.training.coco_data import CocoFolder

FIGURES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)
"""Names of the twelve COCO figures, in pycocotools' order."""

_EVERYTHING = DetectionOptions(score_threshold=0.0, max_detections=0)


def evaluate(
    model: DETR,
    folder: CocoFolder,
    policy: InputPolicy,
    normalization: Normalization,
    *,
    categories: tuple[Category, ...],
    limit: int | None = None,
) -> dict[str, float]:
    """Return the twelve COCO figures of `model` on the first `limit` pictures of `folder`.

    Pictures go through alone, since padding to a batch's size costs DETR precision.
    """
    pictures = folder.pictures[:limit]
    found = detect(model, _frames(folder, pictures), policy, normalization, categories)
    return coco_figures(folder.instances, found, [picture["id"] for picture in pictures])


@torch.inference_mode()
def detect(
    model: DETR,
    frames: Iterable[tuple[int, np.ndarray[Any, np.dtype[np.uint8]]]],
    policy: InputPolicy,
    normalization: Normalization,
    categories: tuple[Category, ...],
) -> Iterator[tuple[int, tuple[Detection, ...]]]:
    """Yield image id and every query's detection for frames of (image id, RGB pixels)."""
    model.eval()
    for image_id, rgb in frames:
        pixels, geometry = preprocess(rgb, policy, normalization)
        output = model(torch.from_numpy(pixels), torch.from_numpy(_padding(geometry)))
        logits, boxes = output.logits[0].numpy(), output.boxes[0].numpy()
        yield image_id, detections(logits, boxes, geometry, categories, _EVERYTHING)


def coco_figures(
    instances: dict[str, Any],
    found: Iterable[tuple[int, Sequence[Detection]]],
    image_ids: Sequence[int],
) -> dict[str, float]:
    """Return the twelve COCO figures for detections in the pictures `image_ids`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = [
        [image_id, box.x_min, box.y_min, box.x_max - box.x_min, box.y_max - box.y_min, score, kind]
        for image_id, items in found
        for box, score, kind in ((item.box, item.score, item.category_id) for item in items)
    ]
    if not results:
        return dict.fromkeys(FIGURES, 0.0)
    # pycocotools reports by printing.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = instances
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(np.array(results)), "bbox")
        evaluator.params.imgIds = list(image_ids)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(FIGURES, (float(value) for value in evaluator.stats), strict=True))


def _frames(
    folder: CocoFolder, pictures: Sequence[dict[str, Any]]
) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.uint8]]]]:
    for picture in pictures:
        yield picture["id"], folder.read(picture)


def _padding(geometry: FrameGeometry) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """[1,H,W] bool, true on padding."""
    padding = np.ones((1, geometry.input_height, geometry.input_width), np.bool_)
    padding[:, : geometry.valid_height, : geometry.valid_width] = False
    return padding
