"""Batches of noise, by which halves are traced and compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """A batch: the input's height and width, and the valid height and width of each image."""

    input_size: tuple[int, int]
    valid_sizes: tuple[tuple[int, int], ...]

    def noise(
        self, generator: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Noise [N,3,H,W], 0 on padding, and the padding [N,H,W]."""
        shape = (len(self.valid_sizes), *self.input_size)
        padding = np.ones(shape, bool)
        for image, (height, width) in zip(padding, self.valid_sizes, strict=True):
            image[:height, :width] = False
        noise = generator.standard_normal((shape[0], 3, *self.input_size), np.float32)
        return noise * ~padding[:, None], padding
