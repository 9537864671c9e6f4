"""COCO folders: pictures and their instances file, checked before anything runs on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.domain.errors import ConfigurationError, InvalidInputError
from common.domain.frames import EncodedImage
from common.vision.decode import decode_image
from common.vision.headers import read_header
from common.vision.limits import DEFAULT_MAX_PIXELS, ImageSize
from detr.coco.categories import match_categories
from detr.coco.instances import Say, by_id, read_instances


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture's pixels, RGB uint8 [H,W,3]; EXIF orientation is not applied.

    Raises:
        InvalidInputError: it is missing, neither JPEG nor PNG, cut off, damaged or too large.
    """
    data = _read(path)
    try:
        return np.asarray(decode_image(EncodedImage(data), DEFAULT_MAX_PIXELS), np.uint8)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def stored_size(path: Path) -> ImageSize:
    """Return a picture's size as stored, without decoding it; errors as `read_picture`."""
    data = _read(path)
    try:
        return read_header(data, DEFAULT_MAX_PIXELS).size
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path} is missing") from error
    # ValueError: a name that no file can have, such as one with a zero byte.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"{str(path)!r} cannot be read: {reason}") from error


# Reading headers is waiting for the disk.
_READERS = 8


@dataclass(frozen=True)
class CocoFolder:
    """Pictures and their instances file.

    Attributes:
        images: the folder of the pictures.
        instances: the content of the instances file, see `read_instances`.
        pictures: the `images` entries, by ascending id.
        annotations: for each picture's id, its annotations that mark single objects, no crowds.
        categories: maps each category id of the file to the model's id for it. They are equal
            unless the model's were given and only the names agree.
    """

    images: Path
    instances: dict[str, Any]
    pictures: tuple[dict[str, Any], ...]
    annotations: dict[int, tuple[dict[str, Any], ...]]
    categories: dict[int, int]

    def read(self, picture: dict[str, Any]) -> NDArray[np.uint8]:
        """Return a picture's pixels as stored, RGB uint8.

        Raises:
            InvalidInputError: the file is missing or not a picture.
        """
        return read_picture(self.images / picture["file_name"])


def open_coco(
    images: Path,
    instances_file: Path,
    *,
    model: Mapping[int, str] | None = None,
    say: Say = lambda _: None,
) -> CocoFolder:
    """Read an instances file; see `check_pictures` for the pictures.

    Args:
        images: the folder of the pictures.
        instances_file: in COCO's format.
        model: ids and names of the categories that the model knows; None if that is not known.
        say: is told what was put right.

    Raises:
        ConfigurationError: a file or folder is missing, an entry is wrong, or the categories are
            not the model's.
    """
    if not images.is_dir():
        raise ConfigurationError(f"there is no folder {images}.")
    content = read_instances(instances_file, say)
    pictures = by_id(content["images"])
    repeated = len(pictures) - len({picture["file_name"] for picture in pictures})
    if repeated:
        say(f"{instances_file}: {repeated} images name a picture that another image names too.")
    annotations: dict[int, list[dict[str, Any]]] = {picture["id"]: [] for picture in pictures}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            annotations[annotation["image_id"]].append(annotation)
    listed = {category["id"]: category["name"] for category in content["categories"]}
    used = {annotation["category_id"] for annotation in content["annotations"]}
    categories = (
        {one: one for one in listed}
        if model is None
        else match_categories(instances_file, listed, used, model, say)
    )
    frozen = {image_id: tuple(found) for image_id, found in annotations.items()}
    return CocoFolder(images, content, tuple(pictures), frozen, categories)


def check_pictures(images: Path, pictures: Sequence[dict[str, Any]]) -> None:
    """Check that every picture's file is there, is whole, and has the size that is stated.

    Args:
        images: their folder.
        pictures: `images` entries.

    Raises:
        InvalidInputError: some pictures fail; the message names the first with what is wrong, and
            counts the others.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        faults = [fault for fault in pool.map(lambda one: _fault(images, one), pictures) if fault]
    if faults:
        raise InvalidInputError(
            f"{len(faults)} of {len(pictures)} pictures cannot be used; the first is {faults[0]}"
        )


def _fault(images: Path, picture: dict[str, Any]) -> str | None:
    try:
        size = stored_size(images / picture["file_name"])
    except InvalidInputError as error:
        return f"image {picture['id']}: {error}"
    stated = (picture.get("width") or size.width, picture.get("height") or size.height)
    if stated == (size.width, size.height):
        return None
    turned = stated == (size.height, size.width)
    reason = (
        "pixels are taken as stored, without the EXIF orientation that labelling seems to have "
        "applied"
        if turned
        else "it seems to have been resized after labelling"
    )
    return (
        f"image {picture['id']}: {images / picture['file_name']} is {size.width} x "
        f"{size.height} pixels, but the annotations say {stated[0]} x {stated[1]}: {reason}"
    )
