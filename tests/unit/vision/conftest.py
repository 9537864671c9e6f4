"""Synthetic pictures for the vision tests."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [H,W,3] with the spectrum of a photograph (1/f noise) and hard edges."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    planes = [
        np.fft.irfft2(
            np.fft.rfft2(rng.standard_normal((height, width))) * amplitude, s=(height, width)
        )
        for _ in range(3)
    ]
    noise = np.stack(planes, axis=-1)
    pixels = np.clip((noise - noise.mean()) / noise.std() * 50 + 128, 0, 255).astype(np.uint8)
    for _ in range(30):
        y, x = int(rng.integers(0, height)), int(rng.integers(0, width))
        far = (x + int(rng.integers(1, width // 3 + 2)), y + int(rng.integers(1, height // 3 + 2)))
        colour = [int(value) for value in rng.integers(0, 255, 3)]
        cv2.rectangle(pixels, (x, y), far, colour, int(rng.choice([-1, 1, 2])))
    return pixels


@pytest.fixture(scope="session")
def picture() -> Callable[[int, int], np.ndarray]:
    """Makes a picture of a height and width."""
    return _picture
