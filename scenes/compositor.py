"""Compose labelled scenes: icons over a background, each scene a pure function of its seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from scenes.artwork import ALPHA_THRESHOLD, Artwork, Icon
from scenes.backgrounds import Photographs, draw_background
from scenes.camera import degrade
from scenes.colours import jitter_colour

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels; max edges lie one past the last pixel."""

_MAX_PLACEMENT_TRIES = 20


@dataclass(frozen=True)
class SceneSettings:
    """What scenes are made of.

    Attributes:
        max_objects: each scene has 1 to this many.
        long_sides: the range of an object's long side, as a share of sqrt(width * height).
        max_overlap: the largest part of a smaller box that a larger one may cover.
        max_rotation_degrees: objects turn by up to this much either way.
        distractor_share: how often each of up to two icons of no category is added.
        truncated_share: how often an object may leave the frame by up to a third.
    """

    max_objects: int = 5
    long_sides: tuple[float, float] = (0.12, 0.5)
    max_overlap: float = 0.25
    max_rotation_degrees: float = 15.0
    distractor_share: float = 0.25
    truncated_share: float = 0.1


@dataclass(frozen=True)
class SceneObject:
    """An object in a scene: its row in `CATEGORIES`, and the box around its opaque pixels."""

    class_index: int
    box: Box


@dataclass(frozen=True)
class Scene:
    """A picture, RGB uint8 height x width x 3, and what is in it."""

    pixels: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class Pose:
    """How an icon is drawn.

    Attributes:
        long_side: of the upright icon, in pixels.
        angle_degrees: counter-clockwise turn.
        aspect: horizontal stretch over vertical stretch.
        mirrored: left and right exchanged.
    """

    long_side: float
    angle_degrees: float = 0.0
    aspect: float = 1.0
    mirrored: bool = False


def draw_scene(
    rng: np.random.Generator,
    artwork: Artwork,
    photographs: Photographs,
    settings: SceneSettings,
    *,
    height: int,
    width: int,
) -> Scene:
    """Compose a random scene of height x width pixels, camera artefacts included."""
    canvas = draw_background(rng, photographs, height, width)
    objects: list[SceneObject] = []
    taken: list[Box] = []
    for icons, class_index in choose_icons(rng, artwork, settings):
        icon = icons[int(rng.integers(len(icons)))]
        size = rng.uniform(*settings.long_sides) * math.sqrt(height * width)
        patch = jitter_colour(rng, turned_patch(icon, random_pose(rng, size, settings)))
        corner = _find_place(rng, patch, taken, (height, width), settings)
        if corner is None:
            continue
        box = paste(canvas, patch, *corner)
        if box is None:
            continue
        taken.append(box)
        if class_index is not None:
            objects.append(SceneObject(class_index, box))
    return Scene(degrade(rng, canvas), tuple(objects))


def turned_patch(icon: Icon, pose: Pose) -> NDArray[np.uint8]:
    """Return `icon` in `pose` as premultiplied RGBA, cropped to its box."""
    source, matrix = _posed(icon, pose)
    out_width, out_height = _extent(source, matrix)
    middle = (out_width - 1) / 2, (out_height - 1) / 2
    return _cropped(_warped(source, matrix, middle, (out_width, out_height)))


def placed_patch(
    icon: Icon, pose: Pose, x: float, y: float
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return `icon` in `pose` with its middle at (x, y), to a fraction of a pixel.

    Args:
        icon: what to draw.
        pose: how.
        x: in the frame; the first pixel's middle is 0.
        y: likewise.

    Returns:
        Premultiplied RGBA, and the column and row of its first pixel in the frame.
    """
    source, matrix = _posed(icon, pose)
    out_width, out_height = (side + 2 for side in _extent(source, matrix))
    left, top = math.floor(x - (out_width - 1) / 2), math.floor(y - (out_height - 1) / 2)
    patch = _warped(source, matrix, (x - left, y - top), (out_width, out_height))
    return patch, (left, top)


def _posed(icon: Icon, pose: Pose) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the picture to draw from, and its 2 x 2 matrix."""
    source = icon.at_least(pose.long_side)
    scale = pose.long_side / max(source.shape[:2])
    horizontal = scale * math.sqrt(pose.aspect) * (-1.0 if pose.mirrored else 1.0)
    vertical = scale / math.sqrt(pose.aspect)
    cos = math.cos(math.radians(pose.angle_degrees))
    sin = math.sin(math.radians(pose.angle_degrees))
    matrix = np.array([[cos * horizontal, sin * vertical], [-sin * horizontal, cos * vertical]])
    return source, matrix


def _extent(source: NDArray[np.uint8], matrix: NDArray[np.float64]) -> tuple[int, int]:
    """Return the width and height that the turned picture needs, with a margin."""
    height, width = source.shape[:2]
    extent = np.abs(matrix) @ (width, height)
    return math.ceil(float(extent[0])) + 2, math.ceil(float(extent[1])) + 2


def _warped(
    source: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    middle: tuple[float, float],
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """Return the picture drawn about `middle` into width x height pixels."""
    height, width = source.shape[:2]
    # Pixel centres sit at whole numbers, so the middle of n pixels is (n - 1) / 2.
    own_middle = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = np.array(middle) - matrix @ own_middle
    affine = np.concatenate([matrix, offset[:, None]], axis=1)
    patch = cv2.warpAffine(source, affine, size, flags=cv2.INTER_LINEAR)
    return np.asarray(patch, np.uint8)


def paste(canvas: NDArray[np.uint8], patch: NDArray[np.uint8], left: int, top: int) -> Box | None:
    """Blend a premultiplied RGBA patch into `canvas` in place.

    Returns:
        The box of what is visible, or None when nothing is.
    """
    x_min, y_min = max(0, left), max(0, top)
    x_max = min(canvas.shape[1], left + patch.shape[1])
    y_max = min(canvas.shape[0], top + patch.shape[0])
    if x_max <= x_min or y_max <= y_min:
        return None
    visible = patch[y_min - top : y_max - top, x_min - left : x_max - left]
    rows, columns = _opaque_extent(visible)
    if rows is None or columns is None:
        return None
    region = canvas[y_min:y_max, x_min:x_max]
    behind = region.astype(np.uint16) * (255 - visible[:, :, 3:].astype(np.uint16))
    region[:] = np.minimum(255, visible[:, :, :3] + (behind + 127) // 255)
    return (
        float(x_min + columns[0]),
        float(y_min + rows[0]),
        float(x_min + columns[1]),
        float(y_min + rows[1]),
    )


def overlap(a: Box, b: Box) -> float:
    """Return the part of the smaller box that the other covers, 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))


def choose_icons(
    rng: np.random.Generator, artwork: Artwork, settings: SceneSettings
) -> list[tuple[Sequence[Icon], int | None]]:
    """Draw categories first, so that those with few icons are as frequent; then shuffle."""
    count = int(rng.integers(1, settings.max_objects + 1))
    classes = rng.integers(len(artwork.icons), size=count)
    chosen: list[tuple[Sequence[Icon], int | None]] = [
        (artwork.icons[index], int(index)) for index in classes
    ]
    if artwork.distractors:
        extra = int((rng.random(2) < settings.distractor_share).sum())
        chosen += [(artwork.distractors, None)] * extra
    return [chosen[index] for index in rng.permutation(len(chosen))]


def random_pose(rng: np.random.Generator, long_side: float, settings: SceneSettings) -> Pose:
    """Draw how an object of `long_side` pixels is turned, stretched and mirrored."""
    return Pose(
        long_side=long_side,
        angle_degrees=rng.uniform(-1, 1) * settings.max_rotation_degrees,
        aspect=math.exp(rng.uniform(-0.2, 0.2)),
        mirrored=bool(rng.random() < 0.5),
    )


def _find_place(
    rng: np.random.Generator,
    patch: NDArray[np.uint8],
    taken: Sequence[Box],
    frame: tuple[int, int],
    settings: SceneSettings,
) -> tuple[int, int] | None:
    """Return the left and top of a free place for `patch`, or None when none is found."""
    patch_height, patch_width = patch.shape[:2]
    margin = 1 / 3 if rng.random() < settings.truncated_share else 0.0
    lowest = (-int(margin * patch_width), -int(margin * patch_height))
    highest = (frame[1] - patch_width - lowest[0], frame[0] - patch_height - lowest[1])
    if highest[0] < lowest[0] or highest[1] < lowest[1]:
        return None
    for _ in range(_MAX_PLACEMENT_TRIES):
        left = int(rng.integers(lowest[0], highest[0] + 1))
        top = int(rng.integers(lowest[1], highest[1] + 1))
        box = (float(left), float(top), float(left + patch_width), float(top + patch_height))
        if all(overlap(box, other) <= settings.max_overlap for other in taken):
            return left, top
    return None


def _cropped(patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = _opaque_extent(patch)
    if rows is None or columns is None:
        return patch
    return patch[rows[0] : rows[1], columns[0] : columns[1]]


def _opaque_extent(
    patch: NDArray[np.uint8],
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Return the half-open ranges of rows and columns that count as the object."""
    opaque = patch[:, :, 3] > ALPHA_THRESHOLD
    rows = np.flatnonzero(opaque.any(axis=1))
    columns = np.flatnonzero(opaque.any(axis=0))
    if rows.size == 0:
        return None, None
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)
