"""Objects in other colours and another light."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from scenes.artwork import Icon, icon_sizes


def recoloured(rng: np.random.Generator, icon: Icon) -> Icon:
    """Return `icon` in colours that it keeps in all sizes, as `jitter_colour` draws them."""
    return Icon(icon.artwork_set, icon.name, icon_sizes(jitter_colour(rng, icon.mips[0])))


def jitter_colour(rng: np.random.Generator, patch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a premultiplied RGBA patch, sometimes in other hues, always in another light."""
    alpha = patch[:, :, 3:]
    colour = patch[:, :, :3]
    if rng.random() < 0.25:
        hsv = cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_RGB2HSV)
        turned = (hsv[:, :, 0].astype(np.int16) + int(rng.integers(-20, 21))) % 180
        hsv[:, :, 0] = turned.astype(np.uint8)
        colour = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    gain = rng.uniform(0.7, 1.2) * rng.uniform(0.9, 1.1, 3)
    table = np.minimum(np.arange(256)[:, None] * gain, 255).astype(np.uint8)
    colour = np.asarray(cv2.LUT(np.ascontiguousarray(colour), table[None]), np.uint8)
    # Premultiplied colour never exceeds alpha.
    return np.concatenate([np.minimum(colour, alpha), alpha], axis=2)
