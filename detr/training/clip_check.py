"""How well a bundle does on the demo clip, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.bundle import Bundle
from common.domain.detections import Detection, DetectionOptions
from common.domain.errors import ConfigurationError
from detr.average_precision import coco_figures
from detr.coco_folder import open_coco
from detr.training.evaluation import bundle_detector

MIN_IOU = 0.5
"""A detection finds an object when their boxes overlap at least this much."""

_SHEET_FRAMES, _SHEET_COLUMNS = 12, 4


@dataclass(frozen=True)
class ClipResult:
    """What the clip shows.

    Attributes:
        figures: the twelve COCO figures over all frames, without a threshold.
        perfect_share: of frames with every object found under its name and nothing invented.
        found_share: of objects over all frames.
        invented_per_frame: detections that find nothing.
    """

    figures: dict[str, float]
    perfect_share: float
    found_share: float
    invented_per_frame: float


def judge_clip(
    bundle: Bundle, folder: Path, threshold: float, sheet: Path | None = None
) -> ClipResult:
    """Run the bundle over `clip.mp4` in `folder` and compare with `annotations.json`.

    Args:
        bundle: the model.
        folder: of the clip.
        threshold: score from which a detection counts.
        sheet: where to write a picture of some frames with their boxes, if anywhere.

    Raises:
        ConfigurationError: clip and annotations do not fit each other, or are missing.
    """
    truth = open_coco(folder, folder / "annotations.json")
    detector = bundle_detector(bundle)
    every: list[tuple[int, tuple[Detection, ...]]] = []
    drawn: list[NDArray[np.uint8]] = []
    perfect = found = invented = objects = 0
    options = DetectionOptions(score_threshold=threshold)
    step = max(1, len(truth.pictures) // _SHEET_FRAMES)
    for number, rgb in enumerate(_frames(folder / "clip.mp4")):
        if number not in truth.annotations:
            raise ConfigurationError(f"{folder}: the clip has more frames than annotations.")
        every.append((number, detector.detect(rgb)))
        shown = detector.detect(rgb, options)
        right = count_found(truth.annotations[number], shown)
        wanted = len(truth.annotations[number])
        found += right
        objects += wanted
        invented += len(shown) - right
        perfect += right == wanted == len(shown)
        if sheet and number % step == 0:
            drawn.append(_with_boxes(rgb, shown))
    if len(every) != len(truth.pictures):
        raise ConfigurationError(f"{folder}: the clip has fewer frames than annotations.")
    if sheet:
        _write_sheet(drawn, sheet)
    return ClipResult(
        figures=coco_figures(truth.instances, every, [number for number, _ in every]),
        perfect_share=perfect / len(every),
        found_share=found / objects,
        invented_per_frame=invented / len(every),
    )


def count_found(annotations: Sequence[dict[str, Any]], shown: Sequence[Detection]) -> int:
    """Return how many objects a detection of their category overlaps enough, each used once."""
    free = list(shown)
    count = 0
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        corners = (x, y, x + width, y + height)
        same = [d for d in free if d.category_id == annotation["category_id"]]
        best = max(same, key=lambda d: _iou(corners, d), default=None)
        if best is not None and _iou(corners, best) >= MIN_IOU:
            free.remove(best)
            count += 1
    return count


def _iou(corners: tuple[float, float, float, float], detection: Detection) -> float:
    box = detection.box
    width = min(corners[2], box.x_max) - max(corners[0], box.x_min)
    height = min(corners[3], box.y_max) - max(corners[1], box.y_min)
    if width <= 0 or height <= 0:
        return 0.0
    first = (corners[2] - corners[0]) * (corners[3] - corners[1])
    second = (box.x_max - box.x_min) * (box.y_max - box.y_min)
    return width * height / (first + second - width * height)


def _frames(video: Path) -> Iterator[NDArray[np.uint8]]:
    import av

    if not video.is_file():
        raise ConfigurationError(f"{video} is missing.")
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _with_boxes(rgb: NDArray[np.uint8], shown: Sequence[Detection]) -> NDArray[np.uint8]:
    picture = rgb.copy()
    for item in shown:
        corner = (round(item.box.x_min), round(item.box.y_min))
        opposite = (round(item.box.x_max), round(item.box.y_max))
        cv2.rectangle(picture, corner, opposite, (255, 0, 0), 2)
        text = f"{item.category_name} {item.score:.2f}"
        place = (corner[0], max(12, corner[1] - 4))
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 0))
    return picture


def _write_sheet(drawn: Sequence[NDArray[np.uint8]], path: Path) -> None:
    kept = drawn[: len(drawn) // _SHEET_COLUMNS * _SHEET_COLUMNS]
    rows = [
        np.concatenate(kept[i : i + _SHEET_COLUMNS], axis=1)
        for i in range(0, len(kept), _SHEET_COLUMNS)
    ]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
