"""The resize against PIL's, within the bounds that its docstring states."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from common.vision.resize import resize_bilinear

if TYPE_CHECKING:
    Picture = Callable[[int, int], np.ndarray]


def difference_from_pil(source: np.ndarray, height: int, width: int) -> np.ndarray:
    reference = Image.fromarray(source).resize((width, height), Image.Resampling.BILINEAR)
    resized = resize_bilinear(source, height, width).astype(int)
    return np.abs(resized - np.asarray(reference).astype(int))


@pytest.mark.parametrize(
    ("source", "target", "mean_bound", "max_bound"),
    [
        ((480, 640), (800, 1066), 0.2, 1),
        ((240, 320), (800, 1066), 0.25, 1),
        ((800, 1066), (640, 853), 1.5, 30),
        ((1080, 1920), (749, 1333), 1.5, 25),
        ((480, 640), (240, 320), 0.2, 20),
        ((1080, 1920), (320, 568), 0.4, 25),
        ((2160, 3840), (180, 320), 0.5, 10),
        # Stretched to a square, as RT-DETR, D-FINE and RF-DETR take their frames.
        ((480, 640), (640, 640), 0.2, 1),
        ((1080, 1920), (640, 640), 0.7, 20),
        ((1920, 1080), (640, 640), 0.7, 20),
        ((1080, 1920), (384, 384), 0.4, 20),
        ((480, 640), (384, 384), 1.6, 25),
        ((2160, 3840), (640, 640), 0.4, 20),
        ((120, 1600), (640, 640), 0.4, 20),
        # One axis grows by a pixel while the other shrinks.
        ((100, 400), (101, 200), 2.0, 40),
    ],
)
def test_difference_from_pil_is_bounded(
    picture: Picture,
    source: tuple[int, int],
    target: tuple[int, int],
    mean_bound: float,
    max_bound: int,
) -> None:
    difference = difference_from_pil(picture(*source), *target)
    assert difference.mean() <= mean_bound
    assert difference.max() <= max_bound


def test_the_same_size_is_not_touched(picture: Picture) -> None:
    source = picture(30, 40)
    np.testing.assert_array_equal(resize_bilinear(source, 30, 40), source)


def test_one_pixel(picture: Picture) -> None:
    assert resize_bilinear(picture(50, 60), 1, 1).shape == (1, 1, 3)
    assert resize_bilinear(np.full((1, 1, 3), 7, np.uint8), 4, 5).tolist() == [[[7] * 3] * 5] * 4


@pytest.mark.parametrize(
    ("source", "target"), [((1, 1_000_000), (1, 50)), ((1_000_000, 1), (50, 3))]
)
def test_the_filter_does_not_grow_with_the_aspect_ratio(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    """It took gigabytes: a matrix as wide as the scale, and 64 times as high."""
    stripe = np.full((*source, 3), 9, np.uint8)
    tracemalloc.start()
    resized = resize_bilinear(stripe, *target)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert resized.shape == (*target, 3)
    assert (resized == 9).all()
    assert peak_bytes < 20_000_000
