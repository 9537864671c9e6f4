"""Measures a bundle's features for the codecs whose ranges are calibrated ahead of time."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

from common.bundle import Calibration
from common.domain.codec import CALIBRATED_BITS
from common.domain.errors import InvalidInputError

# Cells of a frame that are kept to look for the best ranges: 20 MB for 300 frames of 256 channels.
_CELLS_KEPT = 64
# Histogram of standardised values: fine against the finest step looked at (2 / 63).
_HISTOGRAM_REACH = 16.0
_HISTOGRAM_BINS = 8192
# Standard deviations.
_CLIPS = np.arange(100, 1201, 5) / 100
# The squared error would choose narrower ranges, which are worse for the boxes: errors of clipped
# values, few and large, harm more than as much error spread evenly. Wider ranges are smaller too,
# having coarser steps; this is about as wide as costs q4 nothing (docs/decisions/0005).
_ERROR_POWER = 8
# Beyond this the last bits differ from processor to processor.
_DIGITS = 6


class FeatureStatistics:
    """Mean, standard deviation and a sample of every channel, over frames given one by one."""

    def __init__(self) -> None:
        """Start with no frames."""
        self._frames = 0
        self._cells = 0
        self._mean: np.ndarray = np.zeros(0)
        self._squares: np.ndarray = np.zeros(0)
        self._kept: List[np.ndarray] = []

    def add(self, features: np.ndarray) -> None:
        """Take in one frame.

        Args:
            features: float32 [channels,rows,columns], without padding.

        Raises:
            InvalidInputError: a value is not finite, or the channels are not the same as before.
        """
        values = features.reshape(features.shape[0], -1).astype(np.float64)
        if not np.isfinite(values).all():
            raise InvalidInputError("the backbone's features are not finite")
        if self._frames and len(values) != len(self._mean):
            raise InvalidInputError(
                f"a frame has {len(values)} channels, the ones before had {len(self._mean)}"
            )
        self._merge(values)
        cells = values.shape[1]
        kept = np.arange(min(cells, _CELLS_KEPT)) * cells // min(cells, _CELLS_KEPT)
        # Not the same cells in every frame.
        self._kept.append(features.reshape(len(values), -1)[:, (kept + self._frames) % cells])
        self._frames += 1

    def calibration(self) -> Calibration:
        """Summarise all frames.

        Raises:
            InvalidInputError: there were none.
        """
        if not self._frames:
            raise InvalidInputError("there are no frames to calibrate on")
        std = np.sqrt(self._squares / self._cells)
        centres, weights = self._histogram(std)
        return Calibration(
            frames=self._frames,
            mean=tuple(_rounded(value) for value in self._mean),
            std=tuple(_rounded(value) for value in std),
            clip={
                codec.value: best_clip(centres, weights, bits, _ERROR_POWER)
                for codec, bits in CALIBRATED_BITS.items()
            },
        )

    def _merge(self, values: np.ndarray) -> None:
        """Take in a frame [channels,cells] by the update of Chan, Golub and LeVeque."""
        cells = values.shape[1]
        mean = values.mean(axis=1)
        squares = np.square(values - mean[:, None]).sum(axis=1)
        if not self._frames:
            self._mean, self._squares, self._cells = mean, squares, cells
            return
        total = self._cells + cells
        apart = mean - self._mean
        self._mean = self._mean + apart * cells / total
        self._squares = self._squares + squares + apart**2 * self._cells * cells / total
        self._cells = total

    def _histogram(self, std: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Standardised values of all channels: bin centres and weights.

        A value weighs by its channel's spread, so that errors are the features' own.
        """
        edges = np.linspace(-_HISTOGRAM_REACH, _HISTOGRAM_REACH, _HISTOGRAM_BINS + 1)
        weights = np.zeros(_HISTOGRAM_BINS)
        alive = std > 0
        scale = np.where(alive, std, 1)[:, None]
        for kept in self._kept:
            standard = (kept - self._mean[:, None]) / scale
            bins = (standard + _HISTOGRAM_REACH) * (_HISTOGRAM_BINS / (2 * _HISTOGRAM_REACH))
            bins = np.clip(bins, 0, _HISTOGRAM_BINS - 1).astype(np.int64)
            scales = np.broadcast_to(std[:, None] ** _ERROR_POWER, bins.shape)
            weights += np.bincount(bins[alive].ravel(), scales[alive].ravel(), _HISTOGRAM_BINS)
        return (edges[:-1] + edges[1:]) / 2, weights


def best_clip(centres: np.ndarray, weights: np.ndarray, bits: int, power: int) -> float:
    """Half the range, in standard deviations, whose uniform levels have the least error.

    Args:
        centres: of a histogram of values of mean 0 and standard deviation 1.
        weights: of its bins; all 0 if every channel is constant.
        bits: 2^bits levels, the ends of the range included.
        power: even, of the error that is least on average: 2 for the square.
    """
    errors = [_error(centres, weights, clip, 1 << bits, power) for clip in _CLIPS]
    return float(_CLIPS[int(np.argmin(errors))])


def _error(centres: np.ndarray, weights: np.ndarray, clip: float, levels: int, power: int) -> float:
    step = 2 * clip / (levels - 1)
    level = np.clip(np.rint((centres + clip) / step), 0, levels - 1)
    # numpy squares fast; any other power takes twenty times as long.
    squares = np.square(level * step - clip - centres)
    return float(weights @ squares ** (power // 2))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
