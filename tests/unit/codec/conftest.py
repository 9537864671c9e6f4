"""Features as a backbone gives them, and a calibration for them."""

import numpy as np
import pytest

from common.bundle import Calibration
from common.codec import FeatureCodec
from common.codec.feature_statistics import FeatureStatistics

CHANNELS = 6


def features(frames=1, channels=CHANNELS, rows=12, columns=16, seed=0):
    """float32 [frames,channels,rows,columns]; every channel has a mean, a spread and smoothness.

    The first channel is about 1, the last one hundreds of times as large.
    """
    random = np.random.default_rng(seed)
    noise = random.normal(0, 1, (frames, channels, rows + 1, columns + 1))
    smooth = noise[..., 1:, 1:] + noise[..., :-1, 1:] + noise[..., 1:, :-1]
    spread = np.geomspace(0.5, 200, channels)[:, None, None]
    mean = np.linspace(-3, 3, channels)[:, None, None] * spread
    wander = random.normal(0, 0.5, (frames, channels, 1, 1)) * spread
    return (smooth * spread + mean + wander).astype(np.float32)


def calibrated(tensor) -> Calibration:
    statistics = FeatureStatistics()
    for frame in tensor:
        statistics.add(frame)
    return statistics.calibration()


@pytest.fixture(scope="session")
def calibration():
    return calibrated(features(frames=40, seed=1))


@pytest.fixture(scope="session")
def codecs(calibration):
    return FeatureCodec(calibration)
