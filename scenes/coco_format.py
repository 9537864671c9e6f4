"""Scenes as a COCO data set: pictures and one instances file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2

from scenes.categories import CATEGORIES
from scenes.compositor import Scene, SceneObject

JPEG_QUALITY = 95


def export_coco(scenes: Iterable[Scene], folder: Path, description: str) -> Path:
    """Write `images/{number}.jpg`, numbered from 1, and `instances.json` into `folder`.

    Returns:
        The path of the instances file.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)

    def written() -> Iterator[tuple[int, str, int, int, Sequence[SceneObject]]]:
        for number, scene in enumerate(scenes, start=1):
            name = f"{number:06d}.jpg"
            bgr = cv2.cvtColor(scene.pixels, cv2.COLOR_RGB2BGR)
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            cv2.imwrite(str(folder / "images" / name), bgr, quality)
            yield number, name, scene.pixels.shape[0], scene.pixels.shape[1], scene.objects

    content = instances(written(), description)
    path = folder / "instances.json"
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return path


def instances(
    pictures: Iterable[tuple[int, str, int, int, Sequence[SceneObject]]], description: str
) -> dict[str, Any]:
    """Return the content of a COCO instances file.

    Args:
        pictures: image id, file name, height, width and objects of each picture.
        description: goes into `info`.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, name, height, width, objects in pictures:
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for target in objects:
            annotations.append(_annotation(len(annotations) + 1, image_id, target))
    return {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": category.id, "name": category.name} for category in CATEGORIES],
    }


def _annotation(annotation_id: int, image_id: int, target: SceneObject) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = target.box
    width, height = x_max - x_min, y_max - y_min
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": CATEGORIES[target.class_index].id,
        "bbox": [x_min, y_min, width, height],
        "area": width * height,
        "iscrowd": 0,
    }
