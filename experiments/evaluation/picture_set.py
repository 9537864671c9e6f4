"""A COCO-format set as it is evaluated: which pictures, and that all is there before it starts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.domain.errors import InvalidInputError
from detr.coco_folder import open_coco

# What pycocotools reads of an annotation, and fails without.
_ANNOTATION_KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")


@dataclass(frozen=True)
class Picture:
    """One picture of a set."""

    image_id: int
    path: Path


@dataclass(frozen=True)
class PictureSet:
    """Pictures and their truth.

    Attributes:
        instances: the content of the annotations file.
        pictures: those to evaluate, by ascending id.
        digest: sha256 of the annotations file and of the pictures' ids; tells whether an
            unfinished run was on the same set.
    """

    instances: dict[str, Any]
    pictures: tuple[Picture, ...]
    digest: str

    @property
    def image_ids(self) -> list[int]:
        """Of the pictures to evaluate, ascending."""
        return [picture.image_id for picture in self.pictures]


def open_picture_set(images: Path, annotations: Path, limit: int | None = None) -> PictureSet:
    """Read the annotations and look for every picture.

    Args:
        images: folder of the pictures.
        annotations: file in COCO's instances format.
        limit: take the pictures with the lowest ids only, this many.

    Raises:
        CallerError: the annotations are missing or malformed, or pictures are missing.
    """
    if not images.is_dir():
        raise InvalidInputError(f"there is no folder {images}")
    folder = open_coco(images, annotations)
    _check_annotations(annotations, folder.instances)
    listed = [_picture(annotations, images, entry) for entry in folder.pictures]
    for one, following in pairwise(listed):
        if one.image_id == following.image_id:
            raise InvalidInputError(f"{annotations} lists image {one.image_id} twice")
    pictures = tuple(listed[:limit])
    if not pictures:
        raise InvalidInputError(f"{annotations} lists no images")
    missing = [picture.path for picture in pictures if not picture.path.is_file()]
    if missing:
        raise InvalidInputError(
            f"{len(missing)} of {len(pictures)} pictures are missing; the first is {missing[0]}"
        )
    return PictureSet(folder.instances, pictures, _digest(annotations, pictures))


def _picture(path: Path, images: Path, entry: dict[str, Any]) -> Picture:
    name = entry.get("file_name")
    if not isinstance(name, str) or not isinstance(entry["id"], int):
        raise InvalidInputError(f"{path}: image {entry['id']} has no file_name, or no number as id")
    return Picture(entry["id"], images / name)


def _check_annotations(path: Path, instances: dict[str, Any]) -> None:
    categories = instances.get("categories")
    if not categories or not all("id" in category for category in categories):
        raise InvalidInputError(f"{path} lists no categories with their ids")
    for position, annotation in enumerate(instances["annotations"]):
        missing = [key for key in _ANNOTATION_KEYS if key not in annotation]
        if missing:
            raise InvalidInputError(f"{path}: annotation {position} has no {missing[0]}")
        if not isinstance(annotation["bbox"], list) or len(annotation["bbox"]) != 4:
            raise InvalidInputError(f"{path}: the bbox of annotation {position} is not x, y, w, h")


def _digest(annotations: Path, pictures: tuple[Picture, ...]) -> str:
    digest = hashlib.sha256(annotations.read_bytes())
    for picture in pictures:
        digest.update(f"\n{picture.image_id}".encode())
    return digest.hexdigest()
