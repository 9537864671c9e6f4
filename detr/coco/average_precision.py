"""Detections to COCO's average precision, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from common.domain.detections import Detection

FIGURES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)
"""Names of the twelve COCO figures, in pycocotools' order."""

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlaps from which a detection counts; AP is the mean over them."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where pycocotools samples the precision."""


class ResultRow(NamedTuple):
    """One detection, in the order that pycocotools loads from an array; pixels."""

    image_id: int
    x: float
    y: float
    width: float
    height: float
    score: float
    category_id: int


@dataclass(frozen=True)
class CocoScores:
    """What pycocotools says about a set of detections.

    Attributes:
        figures: the twelve COCO figures by their names in `FIGURES`; -1 where the set has no
            object to judge by.
        precision: [10,101] over `IOU_THRESHOLDS` and `RECALLS`, the mean over the categories that
            have objects, for all sizes and up to 100 detections a picture.
    """

    figures: dict[str, float]
    precision: NDArray[np.float64]


def coco_scores(
    instances: dict[str, Any], rows: Sequence[ResultRow], image_ids: Sequence[int]
) -> CocoScores:
    """Judge detections in the pictures `image_ids`.

    Args:
        instances: the content of an instances file.
        rows: every detection, none left out for its score.
        image_ids: the pictures to count.
    """
    instances, rows, image_ids = _numbered(instances, rows, image_ids)
    if not rows:
        blank = np.zeros((len(IOU_THRESHOLDS), len(RECALLS)))
        return CocoScores(dict.fromkeys(FIGURES, 0.0), blank)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = _evaluated(instances, rows, image_ids)
        evaluator.accumulate()
        evaluator.summarize()
    figures = dict(zip(FIGURES, (float(value) for value in evaluator.stats), strict=True))
    return CocoScores(figures, _mean_precision(evaluator.eval["precision"]))


def judged_scores(
    instances: dict[str, Any], rows: Sequence[ResultRow], image_ids: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return each detection's score, and whether COCO takes it for right at an IoU of 0.5.

    Arguments are those of `coco_scores`; detections that COCO ignores are left out.
    """
    instances, rows, image_ids = _numbered(instances, rows, image_ids)
    if not rows:
        return np.zeros(0), np.zeros(0, bool)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = _evaluated(instances, rows, image_ids)
    areas = len(evaluator.params.areaRng)
    # By category, then by range of areas, the first of which is all, then by picture.
    pictures = len(evaluator.params.imgIds)
    judged = [
        one
        for index, one in enumerate(evaluator.evalImgs)
        if one is not None and index // pictures % areas == 0
    ]
    scores = np.concatenate([np.array(one["dtScores"], np.float64) for one in judged])
    right = np.concatenate([one["dtMatches"][0] > 0 for one in judged])
    ignored = np.concatenate([one["dtIgnore"][0].astype(bool) for one in judged])
    return scores[~ignored], right[~ignored]


def _evaluated(
    instances: dict[str, Any], rows: Sequence[ResultRow], image_ids: Sequence[int]
) -> Any:
    """A `COCOeval` that has matched detections and objects; pycocotools reports by printing."""
    truth = COCO()
    truth.dataset = instances
    truth.createIndex()
    evaluator = COCOeval(truth, truth.loadRes(np.array(rows)), "bbox")
    evaluator.params.imgIds = list(image_ids)
    evaluator.evaluate()
    return evaluator


def coco_figures(
    instances: dict[str, Any],
    found: Iterable[tuple[int, Sequence[Detection]]],
    image_ids: Sequence[int],
) -> dict[str, float]:
    """Return the twelve COCO figures for detections in the pictures `image_ids`.

    Args:
        instances: the content of an instances file.
        found: image id and detections of each picture.
        image_ids: the pictures to count.
    """
    rows = [row for image_id, items in found for row in result_rows(image_id, items)]
    return coco_scores(instances, rows, image_ids).figures


def result_rows(image_id: int, items: Sequence[Detection]) -> Iterator[ResultRow]:
    """Yield a picture's detections in the form that pycocotools takes."""
    for item in items:
        box = item.box
        width, height = box.x_max - box.x_min, box.y_max - box.y_min
        yield ResultRow(image_id, box.x_min, box.y_min, width, height, item.score, item.category_id)


def _numbered(
    instances: dict[str, Any], rows: Sequence[ResultRow], image_ids: Sequence[int]
) -> tuple[dict[str, Any], list[ResultRow], list[int]]:
    """Return the arguments with ids replaced by 1, 2, 3 and so on, in the order of the ids.

    pycocotools reads results as float64, which cannot hold every id, takes an annotation of id 0
    for none, and an id that occurred before for the same annotation.
    """
    images = _by_order(entry["id"] for entry in instances["images"])
    categories = _by_order(entry["id"] for entry in instances["categories"])
    annotations = [
        {
            **entry,
            "id": number,
            "image_id": images[entry["image_id"]],
            "category_id": categories[entry["category_id"]],
        }
        for number, entry in enumerate(instances["annotations"], start=1)
    ]
    numbered = {
        **instances,
        "images": [{**entry, "id": images[entry["id"]]} for entry in instances["images"]],
        "categories": [
            {**entry, "id": categories[entry["id"]]} for entry in instances["categories"]
        ],
        "annotations": annotations,
    }
    found = [
        row._replace(image_id=images[row.image_id], category_id=categories[row.category_id])
        for row in rows
        # Of a category that the truth does not know: no figure counts it.
        if row.category_id in categories
    ]
    return numbered, found, [images[image_id] for image_id in image_ids]


def _by_order(ids: Iterable[int]) -> dict[int, int]:
    return {one: number for number, one in enumerate(sorted(ids), start=1)}


def _mean_precision(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average [thresholds,recalls,categories,sizes,limits] over categories; -1 marks no object."""
    of_all_sizes = precision[:, :, :, 0, -1]
    known = of_all_sizes > -1
    total = np.where(known, of_all_sizes, 0).sum(axis=2)
    return np.asarray(total / np.maximum(known.sum(axis=2), 1), np.float64)
