"""Drawn stand-ins for photographs of walls, meadows and scaffolds, for training only.

Nine photographs show few repeating patterns, and a small model that has never seen a wall takes
its courses for legs and wheels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

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
