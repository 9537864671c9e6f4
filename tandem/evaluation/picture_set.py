"""A COCO-format set as it is evaluated: which pictures, and that all is right before it starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bundle import Bundle
from common.domain.detections import Detection
from common.domain.errors import ConfigurationError
from detr.coco.average_precision import ResultRow, result_rows
from detr.coco.categories import same_name
from detr.coco.folder import check_pictures, open_coco
from detr.coco.instances import Say


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
        own_ids: a category id of the model to the set's own.
    """

    instances: dict[str, Any]
    pictures: tuple[Picture, ...]
    digest: str
    own_ids: Mapping[int, int]

    @property
    def image_ids(self) -> list[int]:
        """Of the pictures to evaluate, ascending."""
        return [picture.image_id for picture in self.pictures]

    def rows(self, image_id: int, detections: tuple[Detection, ...]) -> list[ResultRow]:
        """A picture's detections, under the set's own category ids; others are left out.

        Raises:
            ConfigurationError: the model gives a category another name than the set.
        """
        names = {one["id"]: one["name"] for one in self.instances["categories"]}
        for one in detections:
            own = self.own_ids.get(one.category_id)
            if own is not None and not same_name(names[own], one.category_name):
                raise ConfigurationError(
                    f"the model calls category {one.category_id} {one.category_name!r}, the "
                    f"annotations call it {names[own]!r}: they are of different categories"
                )
        rows = result_rows(image_id, detections)
        return [
            row._replace(category_id=self.own_ids[row.category_id])
            for row in rows
            if row.category_id in self.own_ids
        ]


def category_names(bundle: Bundle) -> dict[int, str]:
    """The categories that a model knows, by id."""
    return {category.id: category.name for category in bundle.manifest.categories}


def open_picture_set(
    images: Path,
    annotations: Path,
    limit: int | None = None,
    *,
    model: Mapping[int, str] | None = None,
    say: Say = lambda _: None,
) -> PictureSet:
    """Read and check the annotations, and look at every picture.

    Args:
        images: folder of the pictures.
        annotations: file in COCO's instances format.
        limit: take the pictures with the lowest ids only, this many.
        model: ids and names of the categories that the model knows; None if that is not known.
        say: is told what was put right.

    Raises:
        CallerError: the annotations are missing or wrong, or pictures are; see `open_coco` and
            `check_pictures`. Or the pictures that are taken show nothing that is marked.
    """
    folder = open_coco(images, annotations, model=model, say=say)
    taken = folder.pictures[:limit]
    check_pictures(images, taken)
    # COCO's figures would all be -1.
    if not any(folder.annotations[entry["id"]] for entry in taken):
        raise ConfigurationError(
            f"no object is marked in the {len(taken)} pictures, so there is nothing to find"
        )
    pictures = tuple(Picture(entry["id"], images / entry["file_name"]) for entry in taken)
    own_ids = {of_model: own for own, of_model in folder.categories.items()}
    return PictureSet(folder.instances, pictures, _digest(annotations, pictures), own_ids)


def _digest(annotations: Path, pictures: tuple[Picture, ...]) -> str:
    digest = hashlib.sha256(annotations.read_bytes())
    for picture in pictures:
        digest.update(f"\n{picture.image_id}".encode())
    return digest.hexdigest()
