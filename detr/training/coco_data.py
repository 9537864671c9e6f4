"""COCO folders: reading instances files, and training samples with the paper's augmentation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from common.bundle import Normalization, ShortestEdgeInput
from common.domain.errors import ConfigurationError
from common.vision.preprocess import preprocess
from detr.training.targets import Sample


@dataclass(frozen=True)
class CocoFolder:
    """Pictures and their instances file.

    Attributes:
        images: the folder of the pictures.
        instances: the content of the instances file.
        pictures: the `images` entries, by ascending id.
        annotations: of each picture (by id), those that mark single objects.
    """

    images: Path
    instances: dict[str, Any]
    pictures: tuple[dict[str, Any], ...]
    annotations: dict[int, tuple[dict[str, Any], ...]]

    def read(self, picture: dict[str, Any]) -> NDArray[np.uint8]:
        """Return a picture's pixels, RGB uint8.

        Raises:
            ConfigurationError: the file is missing or not a picture.
        """
        path = self.images / picture["file_name"]
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ConfigurationError(f"{path} is missing or is not a picture.")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def open_coco(images: Path, instances_file: Path) -> CocoFolder:
    """Read an instances file.

    Raises:
        ConfigurationError: it is missing or not in COCO's format.
    """
    try:
        content = json.loads(instances_file.read_text(encoding="utf-8"))
        pictures = sorted(content["images"], key=lambda picture: int(picture["id"]))
        annotations: dict[int, list[dict[str, Any]]] = {p["id"]: [] for p in pictures}
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd", 0):
                annotations[annotation["image_id"]].append(annotation)
    except OSError as error:
        raise ConfigurationError(f"{instances_file} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{instances_file} is not a COCO instances file.") from error
    frozen = {image_id: tuple(found) for image_id, found in annotations.items()}
    return CocoFolder(images, content, tuple(pictures), frozen)


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
        boxes, classes = normalised_boxes(self.folder.annotations[picture["id"]], pixels.shape)
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
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
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
    classes = np.array([a["category_id"] for a in annotations], np.int64)[kept]
    return np.concatenate([(low + high) / 2, high - low], axis=1), classes
