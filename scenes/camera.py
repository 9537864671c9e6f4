"""What a camera does to a picture: exposure, blur, a sensor's noise, JPEG artefacts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITIES = (30, 95)

_EXPOSURE, _BLUR, _NOISE, _JPEG = 0.5, 0.15, 0.25, 0.5  # how often each happens


def degrade(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `pixels` (RGB uint8, H x W x 3) as a camera might have delivered them."""
    if rng.random() < _EXPOSURE:
        gain, offset = rng.uniform(0.75, 1.2), rng.uniform(-20, 20)
        table = np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)
        pixels = np.asarray(cv2.LUT(pixels, table), np.uint8)
    if rng.random() < _BLUR:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 0.9)), np.uint8)
    if rng.random() < _NOISE:
        noise = rng.standard_normal(pixels.shape, np.float32) * rng.uniform(2, 10)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if rng.random() < _JPEG:
        pixels = through_jpeg(pixels, int(rng.integers(JPEG_QUALITIES[0], JPEG_QUALITIES[1] + 1)))
    return pixels


def through_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return RGB `pixels` after JPEG compression at `quality`, with its artefacts."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def sensor_noise(
    rng: np.random.Generator, pixels: NDArray[np.uint8], levels: float
) -> NDArray[np.uint8]:
    """Return `pixels` with Gaussian noise of `levels` grey levels (standard deviation) added.

    Noise is rounded to the nearest level, so that it makes the picture neither darker nor lighter.
    """
    noise = rng.standard_normal(pixels.shape, np.float32) * np.float32(levels)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)
