"""Random clips with known boxes, seeded: each is a pure function of seed, split and index."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from scenes.camera import sensor_noise
from scenes.compositor import Scene
from scenes.shots import StillCamera, random_shot
from scenes.splits import SPLIT_SEEDS, SceneSource

_SHOT_FRAMES = (36, 96)
_SHORTEST_SHOT = 12  # a rest of fewer frames joins the shot before it
_CLIPS, _NOISE = 1, 2  # keep these random numbers apart from those of single scenes
_EXPOSURE, _BLUR, _DRIFT = 0.5, 0.15, 0.2  # how often a shot has each


def random_clip(
    source: SceneSource,
    index: int,
    frames: int,
    *,
    height: int,
    width: int,
    noise: float = 0.0,
    still: StillCamera | None = None,
) -> Iterator[Scene]:
    """Yield the frames of clip `index`: shots with cuts between them, or one of a fixed camera.

    Args:
        source: artwork and photographs of a split, and the seed.
        index: of the clip; the same index gives the same clip.
        frames: its length.
        height: of the frames, pixels.
        width: likewise.
        noise: of the sensor, in grey levels (standard deviation); the clip's content is the same
            with every noise.
        still: of a camera that is fixed, whose clip has no cuts; None: of any cameras.
    """
    seed = [source.seed, SPLIT_SEEDS[source.split], index]
    rng = np.random.default_rng([*seed, _CLIPS])
    noise_rng = np.random.default_rng([*seed, _NOISE])
    for length in shot_lengths(rng, frames) if still is None else [frames]:
        shot = random_shot(rng, source, length, height, width, still=still)
        light = _Light(rng)
        for number, scene in enumerate(shot.scenes(height, width)):
            pixels = light.seen(scene.pixels, number)
            if noise > 0:
                pixels = sensor_noise(noise_rng, pixels, noise)
            yield Scene(pixels, scene.objects)


def shot_lengths(rng: np.random.Generator, frames: int) -> list[int]:
    """Draw the lengths of a clip's shots, in frames."""
    lengths: list[int] = []
    while (left := frames - sum(lengths)) > 0:
        length = int(rng.integers(_SHOT_FRAMES[0], _SHOT_FRAMES[1] + 1))
        lengths.append(left if left - length < _SHORTEST_SHOT else length)
    return lengths


class _Light:
    """Exposure and blur of one shot; some cameras adjust the exposure slowly."""

    def __init__(self, rng: np.random.Generator) -> None:
        exposed = rng.random() < _EXPOSURE
        self._gain = rng.uniform(0.75, 1.2) if exposed else 1.0
        self._offset = rng.uniform(-20, 20) if exposed else 0.0
        self._blur = rng.uniform(0.3, 0.9) if rng.random() < _BLUR else 0.0
        self._drift = rng.uniform(0.03, 0.12) if rng.random() < _DRIFT else 0.0

    def seen(self, pixels: NDArray[np.uint8], frame: int) -> NDArray[np.uint8]:
        gain = self._gain * (1.0 + self._drift * np.sin(frame / 15))
        table = np.clip(np.rint(np.arange(256) * gain + self._offset), 0, 255).astype(np.uint8)
        pixels = np.asarray(cv2.LUT(pixels, table), np.uint8)
        if self._blur:
            pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), self._blur), np.uint8)
        return pixels
