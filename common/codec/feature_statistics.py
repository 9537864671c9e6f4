"""Statistics of a bundle's features, from which the ranges of the codecs q6 to q2 are chosen."""

from __future__ import annotations

from typing import List, Sequence

import numpy as np

from common.bundle import Calibration
from common.domain.codec import CALIBRATED_BITS
from common.domain.errors import InvalidInputError

# Cells of each frame that are kept to look for the best ranges. They take 20 MB for 300 frames of
# 256 channels.
_CELLS_KEPT = 64
# The histogram of standardised values is fine against the finest step that is tried (2 / 63).
_HISTOGRAM_REACH = 16.0
_HISTOGRAM_BINS = 8192
# The clipping factors that are tried, in standard deviations.
_CLIPS = np.arange(100, 1201, 5) / 100
# The squared error would choose narrower ranges, which are worse for the boxes: the few large
# errors of clipped values harm more than the same error spread evenly. Wider ranges also take fewer
# bytes, because their steps are coarser. With this power they are about as wide as q4 can have them
# without loss (docs/decisions/0005).
_ERROR_POWER = 8
# Further digits would differ from processor to processor.
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
        """Add one frame.

        Args:
            features: float32 [channels,rows,columns], without padding.

        Raises:
            InvalidInputError: a value is not finite, or the number of channels has changed.
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
        # Other cells in every frame.
        self._kept.append(features.reshape(len(values), -1)[:, (kept + self._frames) % cells])
        self._frames += 1

    @property
    def frames(self) -> int:
        """How many were added."""
        return self._frames

    @property
    def cells(self) -> int:
        """How many cells all frames had together."""
        return self._cells

    @property
    def mean(self) -> np.ndarray:
        """Of each channel's values, [channels]."""
        return self._mean

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of each channel's values, [channels]."""
        deviation: np.ndarray = np.sqrt(self._squares / self._cells)
        return deviation

    def calibration(self) -> Calibration:
        """Summarise all frames; raises as `joint_calibration` does."""
        return joint_calibration((self,))

    def _merge(self, values: np.ndarray) -> None:
        """Add a frame [channels,cells] by the update of Chan, Golub and LeVeque."""
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

    def histogram(self) -> np.ndarray:
        """The weights of the bins of a histogram of all channels' standardised values.

        A value is weighted by its channel's spread, so that errors count in the features' own unit.
        """
        std = self.std
        weights = np.zeros(_HISTOGRAM_BINS)
        alive = std > 0
        scale = np.where(alive, std, 1)[:, None]
        for kept in self._kept:
            standard = (kept - self._mean[:, None]) / scale
            bins = (standard + _HISTOGRAM_REACH) * (_HISTOGRAM_BINS / (2 * _HISTOGRAM_REACH))
            bins = np.clip(bins, 0, _HISTOGRAM_BINS - 1).astype(np.int64)
            scales = np.broadcast_to(std[:, None] ** _ERROR_POWER, bins.shape)
            weights += np.bincount(bins[alive].ravel(), scales[alive].ravel(), _HISTOGRAM_BINS)
        return weights


def joint_calibration(tensors: Sequence[FeatureStatistics]) -> Calibration:
    """Summarise the features of all tensors that cross a cut, each with statistics of its own.

    Args:
        tensors: in the order of the cut; all have seen the same frames.

    Raises:
        InvalidInputError: there were no frames.
    """
    if not all(tensor.frames for tensor in tensors):
        raise InvalidInputError("there are no frames to calibrate on")
    edges = np.linspace(-_HISTOGRAM_REACH, _HISTOGRAM_REACH, _HISTOGRAM_BINS + 1)
    cells = sum(tensor.cells for tensor in tensors)
    # As many cells were kept of a coarse tensor as of a fine one, which has more of them.
    weights: np.ndarray = sum(
        (tensor.histogram() * (tensor.cells / cells) for tensor in tensors),
        np.zeros(_HISTOGRAM_BINS),
    )
    return Calibration(
        frames=tensors[0].frames,
        mean=tuple(_rounded(value) for tensor in tensors for value in tensor.mean),
        std=tuple(_rounded(value) for tensor in tensors for value in tensor.std),
        clip={
            codec.value: best_clip((edges[:-1] + edges[1:]) / 2, weights, bits, _ERROR_POWER)
            for codec, bits in CALIBRATED_BITS.items()
        },
    )


def best_clip(centres: np.ndarray, weights: np.ndarray, bits: int, power: int) -> float:
    """Choose half the range, in standard deviations, whose uniform levels have the least error.

    Args:
        centres: the bin centres of a histogram of values of mean 0 and standard deviation 1.
        weights: the weights of its bins; all are 0 if every channel is constant.
        bits: the range has 2^bits levels, its ends included.
        power: the power, which is even, of the error whose average is minimised; 2 for the square.
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
