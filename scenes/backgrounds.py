"""Backgrounds: photograph crops, drawn textures, shapes, smooth noise and plain colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from common.domain.errors import ConfigurationError
from scenes.fetch import photo_file
from scenes.sources import PHOTOS, SceneSplit

HEIGHT, WIDTH = 600, 800  # pixels

Picture = NDArray[np.uint8]


def draw_textures() -> tuple[Picture, ...]:
    """Return the textures, RGB uint8, always the same."""
    rng = np.random.default_rng(5)
    return (
        _masonry(rng, brick=(90, 30), joint=5),
        np.ascontiguousarray(np.rot90(_masonry(rng, brick=(70, 40), joint=4))),
        _strokes(rng, length=60, thickness=3, count=6000),
        _strokes(rng, length=24, thickness=6, count=6000),
        _scaffold(rng),
    )


def _masonry(rng: np.random.Generator, brick: tuple[int, int], joint: int) -> Picture:
    """Draw courses of bricks (width, height), every second one shifted by half a brick."""
    picture = _plain(rng)
    colour = rng.uniform(60, 200, 3)
    for row, top in enumerate(range(0, HEIGHT, brick[1])):
        for left in range(-brick[0] * (row % 2) // 2, WIDTH, brick[0]):
            shade = _shaded(rng, colour)
            corner, opposite = (left, top), (left + brick[0] - joint, top + brick[1] - joint)
            cv2.rectangle(picture, corner, opposite, shade, cv2.FILLED)
    return _worn(rng, picture)


def _strokes(rng: np.random.Generator, length: int, thickness: int, count: int) -> Picture:
    """Draw short lines in all directions: grass, leaves, straw."""
    picture = _plain(rng)
    colour = rng.uniform(60, 200, 3)
    for _ in range(count):
        start = rng.uniform((0, 0), (WIDTH, HEIGHT))
        end = start + rng.normal(0, length / 2, 2)
        points = np.rint(np.array([start, end])).astype(np.int32)
        shade = _shaded(rng, colour * rng.uniform(0.5, 1.3))
        cv2.polylines(picture, [points], False, shade, thickness, cv2.LINE_AA)
    return _worn(rng, picture)


def _scaffold(rng: np.random.Generator) -> Picture:
    """Draw poles with crossed struts before a graded sky."""
    grading = np.linspace(0.4, 1.2, HEIGHT)[:, None, None]
    picture = np.clip(_plain(rng) * grading, 0, 255).astype(np.uint8)
    for left in range(30, WIDTH, 130):
        right = left + int(rng.integers(25, 70))
        shade = _shaded(rng, rng.uniform(20, 200, 3))
        for side in (left, right):
            cv2.line(picture, (side, 0), (side, HEIGHT), shade, 3, cv2.LINE_AA)
        for top in range(0, HEIGHT, right - left):
            bottom = top + right - left
            cv2.line(picture, (left, top), (right, bottom), shade, 2, cv2.LINE_AA)
            cv2.line(picture, (right, top), (left, bottom), shade, 2, cv2.LINE_AA)
    return _worn(rng, picture)


def _plain(rng: np.random.Generator) -> Picture:
    return np.full((HEIGHT, WIDTH, 3), rng.integers(40, 200, 3), np.uint8)


def _shaded(rng: np.random.Generator, colour: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.clip(colour * rng.uniform(0.8, 1.2), 0, 255))


def _worn(rng: np.random.Generator, picture: Picture) -> Picture:
    """Add grain and uneven light."""
    light = cv2.resize(rng.uniform(0.75, 1.2, (4, 5)), (WIDTH, HEIGHT))[:, :, None]
    grain = rng.normal(0, 8, (HEIGHT, WIDTH, 1))
    return np.clip(picture * light + grain, 0, 255).astype(np.uint8)


# Shares of the kinds of background.
_PHOTO, _SHAPES, _NOISE = 0.65, 0.15, 0.12  # the rest is plain

_LONGEST_PHOTO_SIDE = 1000  # pixels


@dataclass(frozen=True)
class Photographs:
    """Background photographs, RGB uint8, each also at half size for crops of large areas."""

    pictures: tuple[tuple[NDArray[np.uint8], ...], ...]


def load_photographs(cache: Path, split: SceneSplit) -> Photographs:
    """Load the photographs of `split`; the unseen-artwork scenes stand on those of `val`.

    Those of `train` are few, so drawn textures are among them.

    Raises:
        ConfigurationError: a photograph was not fetched.
    """
    wanted = "val" if split == "unseen" else split
    pictures = [read_photograph(cache, photo.file) for photo in PHOTOS if photo.split == wanted]
    if split == "train":
        pictures += draw_textures()
    return Photographs(tuple(photograph_levels(picture) for picture in pictures))


def read_photograph(cache: Path, file: str) -> NDArray[np.uint8]:
    """Read one cached photograph as RGB.

    Raises:
        ConfigurationError: it was not fetched.
    """
    picture = cv2.imread(str(photo_file(cache, file)), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigurationError(
            f"{photo_file(cache, file)} is missing: fetch it with `python -m scenes fetch`."
        )
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def photograph_levels(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """Return the picture and its halvings, down to about 100 pixels."""
    scale = min(1.0, _LONGEST_PHOTO_SIDE / max(picture.shape[:2]))
    if scale < 1.0:
        picture = _resize(picture, scale)
    levels = [picture]
    while min(levels[-1].shape[:2]) >= 200:
        levels.append(_resize(levels[-1], 0.5))
    return tuple(levels)


def draw_background(
    rng: np.random.Generator, photographs: Photographs, height: int, width: int
) -> NDArray[np.uint8]:
    """Return a random RGB background, uint8, height x width x 3."""
    kind = rng.random()
    if kind < _PHOTO and photographs.pictures:
        levels = photographs.pictures[rng.integers(len(photographs.pictures))]
        return _jitter(rng, _crop(rng, levels, height, width))
    if kind < _PHOTO + _SHAPES:
        return _shapes(rng, height, width)
    if kind < _PHOTO + _SHAPES + _NOISE:
        return _smooth_noise(rng, height, width)
    plain = np.empty((height, width, 3), np.uint8)
    plain[:] = rng.integers(0, 256, 3, dtype=np.uint8)
    return plain


def _resize(picture: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    resized = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _crop(
    rng: np.random.Generator, levels: Sequence[NDArray[np.uint8]], height: int, width: int
) -> NDArray[np.uint8]:
    """Return a random part of a photograph, 0.25 to 1 of the largest that fits, resized."""
    full = levels[0]
    largest = min(full.shape[0] / height, full.shape[1] / width)
    zoom = largest * rng.uniform(0.25, 1.0)  # photograph pixels a background pixel
    level = min(len(levels) - 1, max(0, int(np.floor(np.log2(max(zoom, 1.0))))))
    source = levels[level]
    zoom *= source.shape[0] / full.shape[0]
    crop_height = min(source.shape[0], max(2, round(height * zoom)))
    crop_width = min(source.shape[1], max(2, round(width * zoom)))
    top = rng.integers(source.shape[0] - crop_height + 1)
    left = rng.integers(source.shape[1] - crop_width + 1)
    part = source[top : top + crop_height, left : left + crop_width]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    resized = cv2.resize(np.ascontiguousarray(part), (width, height))
    return np.asarray(resized, np.uint8)


def _jitter(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Change brightness, contrast and tint strongly: few photographs must stand for many."""
    gain = rng.uniform(0.5, 1.3) * rng.uniform(0.7, 1.3, 3)
    offset = rng.uniform(-40, 50)
    if rng.random() < 0.2:
        picture = np.ascontiguousarray(picture[:, :, rng.permutation(3)])
    if rng.random() < 0.15:
        gain, offset = -gain, 255 + offset  # a negative
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, table[None]), np.uint8)


def _smooth_noise(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    cells = rng.integers(2, 9, 2)
    coarse = rng.integers(0, 256, (cells[0], cells[1], 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _shapes(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Scatter ellipses, boxes, triangles and lines: edges and outlines that are no object."""
    picture = np.ascontiguousarray(_smooth_noise(rng, height, width))
    for _ in range(rng.integers(6, 40)):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        extent = np.exp(rng.uniform(np.log(0.02), np.log(0.3), 2)) * width
        axes = (max(1, int(extent[0] / 2)), max(1, int(extent[1] / 2)))
        angle = float(rng.uniform(0, 180))
        kind = rng.integers(4)
        thickness = -1 if rng.random() < 0.7 else int(rng.integers(1, 4))
        if kind == 0:
            cv2.ellipse(picture, centre, axes, angle, 0, 360, colour, thickness, cv2.LINE_AA)
        elif kind == 1:
            corners = cv2.boxPoints((centre, (2.0 * axes[0], 2.0 * axes[1]), angle))
            cv2.polylines(picture, [corners.astype(np.int32)], True, colour, 2, cv2.LINE_AA)
            if thickness < 0:
                cv2.fillConvexPoly(picture, corners.astype(np.int32), colour, cv2.LINE_AA)
        elif kind == 2:
            offsets = rng.uniform(-1, 1, (3, 2)) * axes
            cv2.fillConvexPoly(picture, (offsets + centre).astype(np.int32), colour, cv2.LINE_AA)
        else:
            end = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.line(picture, centre, end, colour, int(rng.integers(1, 5)), cv2.LINE_AA)
    return picture
