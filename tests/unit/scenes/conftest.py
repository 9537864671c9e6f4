"""Artwork and photographs that the tests draw themselves, so that no network is needed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from scenes.artwork import Artwork, icon_from_rgba
from scenes.backgrounds import Photographs, photograph_levels
from scenes.categories import CATEGORIES
from scenes.splits import SceneSource


def disc(colour, side=128):
    """An opaque disc on nothing, RGBA."""
    rgba = np.zeros((side, side, 4), np.uint8)
    cv2.circle(rgba, (side // 2, side // 2), side // 3, (*colour, 255), -1, cv2.LINE_AA)
    return rgba


def drawn_artwork():
    icons = tuple(
        (icon_from_rgba("test", f"{category.name}", disc((25 * index, 255 - 25 * index, 128))),)
        for index, category in enumerate(CATEGORIES)
    )
    return Artwork(icons, (icon_from_rgba("test", "thing", disc((255, 255, 255))),))


def drawn_photographs():
    ramp = np.linspace(0, 255, 300, dtype=np.uint8)
    photograph = np.stack([np.tile(ramp, (220, 1))] * 3, axis=2)
    return Photographs((photograph_levels(photograph),))


@pytest.fixture
def artwork():
    return drawn_artwork()


@pytest.fixture
def photographs():
    return drawn_photographs()


@pytest.fixture
def source(artwork, photographs):
    return SceneSource("train", 7, artwork, photographs)
