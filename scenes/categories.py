"""The ten categories of the demo model, with COCO's ids and names."""

from __future__ import annotations

from typing import NamedTuple


class SceneCategory(NamedTuple):
    """A category of the scenes; its place in `CATEGORIES` is its row of the class head."""

    id: int
    name: str


CATEGORIES: tuple[SceneCategory, ...] = (
    SceneCategory(1, "person"),
    SceneCategory(2, "bicycle"),
    SceneCategory(3, "car"),
    SceneCategory(5, "airplane"),
    SceneCategory(6, "bus"),
    SceneCategory(9, "boat"),
    SceneCategory(16, "bird"),
    SceneCategory(17, "cat"),
    SceneCategory(18, "dog"),
    SceneCategory(19, "horse"),
)
