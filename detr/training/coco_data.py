"""COCO folders: training samples with the paper's augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from common.bundle import Normalization, ShortestEdgeInput
from common.vision.preprocess import preprocess
from detr.coco_folder import CocoFolder
from detr.training.targets import Sample


@dataclass(frozen=True)
class CocoDataset(Dataset[Sample]):
    """Sample i is picture i, flipped and scaled at random (as a function of seed and position).

    Attributes:
        folder: the pictures.
        normalization: the model's mean and standard deviation.
        short_sides: pixels; one is drawn for each picture.
        longest_side: pixels.
        seed: of the augmentation.
    """

    folder: CocoFolder
    normalization: Normalization
    short_sides: Sequence[int]
    longest_side: int
    seed: int

    def __getitem__(self, index: int) -> Sample:
        """Read, augment and preprocess picture `index` (modulo the number of pictures).

        The index grows from epoch to epoch, so each epoch augments a picture differently.
        """
        cv2.setNumThreads(0)
        rng = np.random.default_rng([self.seed, index])
        picture = self.folder.pictures[index % len(self.folder.pictures)]
        pixels = self.folder.read(picture)
        objects = self.folder.annotations[picture["id"]]
        boxes, own_ids = normalised_boxes(objects, pixels.shape)
        rows = self.folder.categories
        classes = np.array([rows[own] for own in own_ids], np.int64)
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            boxes[:, 0] = 1 - boxes[:, 0]
        policy = ShortestEdgeInput(
            shortest_edge=int(rng.choice(self.short_sides)), longest_edge=self.longest_side
        )
        image, geometry = preprocess(pixels, policy, self.normalization)
        return Sample(
            image=torch.from_numpy(image[0]),
            valid_size=(geometry.valid_height, geometry.valid_width),
            classes=torch.from_numpy(classes),
            boxes=torch.from_numpy(boxes),
        )


def normalised_boxes(
    annotations: Sequence[dict[str, Any]], shape: Sequence[int]
) -> tuple[NDArray[np.float32], list[int]]:
    """Return boxes (centre x, centre y, width, height in 0..1) and category ids.

    Boxes are clipped to the picture; those without extent are left out, as the official code does.

    Args:
        annotations: with `bbox` in COCO's x, y, width, height.
        shape: height and width of the picture.
    """
    frame = np.array([shape[1], shape[0]], np.float32)
    raw = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
    low = np.clip(raw[:, :2], 0, frame)
    high = np.clip(raw[:, :2] + raw[:, 2:], 0, frame)
    kept = (high > low).all(axis=1)
    low, high = low[kept] / frame, high[kept] / frame
    ids = [a["category_id"] for a, is_kept in zip(annotations, kept, strict=True) if is_kept]
    return np.concatenate([(low + high) / 2, high - low], axis=1), ids
