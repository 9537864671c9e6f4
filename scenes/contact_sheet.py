"""Contact sheets to look at: every icon of a category, and composed scenes with their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from scenes.artwork import Artwork, Icon
from scenes.categories import CATEGORIES
from scenes.compositor import Scene

_CELL = 56  # pixels
_BACKGROUND = 200


def icon_sheet(artwork: Artwork, columns: int = 28) -> NDArray[np.uint8]:
    """Return an RGB sheet of every icon, category after category, distractors last."""
    groups = [(c.name, icons) for c, icons in zip(CATEGORIES, artwork.icons, strict=True)]
    if artwork.distractors:
        groups.append(("no category", artwork.distractors))
    return np.concatenate([_group(name, icons, columns) for name, icons in groups])


def scene_sheet(scenes: Sequence[Scene], columns: int = 6) -> NDArray[np.uint8]:
    """Return an RGB sheet of equally large scenes with their boxes and names drawn in."""
    drawn = [_with_boxes(scene) for scene in scenes]
    blank = np.zeros_like(drawn[0])
    drawn += [blank] * (-len(drawn) % columns)
    rows = [np.concatenate(drawn[i : i + columns], axis=1) for i in range(0, len(drawn), columns)]
    return np.concatenate(rows)


def _group(name: str, icons: Sequence[Icon], columns: int) -> NDArray[np.uint8]:
    rows = -(-len(icons) // columns)
    sheet = np.full((20 + rows * _CELL, columns * _CELL, 3), _BACKGROUND, np.uint8)
    cv2.putText(sheet, f"{name} ({len(icons)})", (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0))
    for index, icon in enumerate(icons):
        top, left = 20 + index // columns * _CELL, index % columns * _CELL
        mip = icon.at_least(_CELL - 4)
        scale = (_CELL - 4) / max(mip.shape[:2])
        small = cv2.resize(mip, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = small.shape[:2]
        cell = sheet[top : top + height, left : left + width]
        cell[:] = small[:, :, :3] + cell * (1 - small[:, :, 3:] / 255.0)
    return sheet


def _with_boxes(scene: Scene) -> NDArray[np.uint8]:
    picture = scene.pixels.copy()
    for target in scene.objects:
        x_min, y_min, x_max, y_max = target.box
        corner, opposite = (round(x_min), round(y_min)), (round(x_max) - 1, round(y_max) - 1)
        cv2.rectangle(picture, corner, opposite, (255, 0, 0), 1)
        name = CATEGORIES[target.class_index].name
        place = (corner[0], max(8, corner[1] - 2))
        cv2.putText(picture, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (255, 255, 0))
    return picture
