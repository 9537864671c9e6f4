"""Makes the tables of the entropy coder from latents like those that it will see."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from common.bundle import Bottleneck
from common.codec.latent_tables import LatentTables, RateTables


def calibrate_latents(bottleneck: Bottleneck, sequences: Sequence[np.ndarray]) -> LatentTables:
    """Make tables for every rate of a bottleneck.

    Args:
        bottleneck: its channels and rates.
        sequences: float32 [frames,channels,rows,columns] with integer values, each of frames that
            follow each other; a single frame is a sequence of one.
    """
    rates = {codec: RateTables() for codec in bottleneck.rates}
    return LatentTables(channels=bottleneck.channels, rates=rates)
