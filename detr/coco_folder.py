"""COCO folders: pictures and their instances file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.domain.errors import ConfigurationError


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
            owner = annotation["image_id"]
            if owner not in annotations:
                raise ConfigurationError(
                    f"{instances_file}: an annotation is of image {owner}, which is not listed."
                )
            if not annotation.get("iscrowd", 0):
                annotations[owner].append(annotation)
    except OSError as error:
        raise ConfigurationError(f"{instances_file} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{instances_file} is not a COCO instances file.") from error
    frozen = {image_id: tuple(found) for image_id, found in annotations.items()}
    return CocoFolder(images, content, tuple(pictures), frozen)
