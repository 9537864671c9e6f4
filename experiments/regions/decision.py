"""Which part of a frame moved: a pure function of two pictures."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_BLOCK = 4  # pixels; averaging over so many each way leaves a quarter of a sensor's noise
_LEAST_CHANGE = 5.0  # grey levels of a block's mean
_NOISES = 7.0  # the median block's change, as a rule noise, has to be exceeded so many times


class Crop(NamedTuple):
    """A rectangle of feature cells; `bottom` and `right` are not part of it."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def cells(self) -> int:
        """How many feature cells it holds."""
        return (self.bottom - self.top) * (self.right - self.left)


def moved_cells(
    now: NDArray[np.uint8], before: NDArray[np.uint8], stride: int
) -> NDArray[np.bool_]:
    """Tell for each feature cell whether something changed in it.

    Args:
        now: RGB, uint8 [H,W,3]; both sides are multiples of `stride`.
        before: likewise, of the same size.
        stride: pixels of a cell's side, a multiple of 4.

    Returns:
        bool [H/stride,W/stride].
    """
    height, width = now.shape[:2]
    difference = cv2.subtract(now, before, dtype=cv2.CV_16S)
    blocks = cv2.resize(
        difference, (width // _BLOCK, height // _BLOCK), interpolation=cv2.INTER_AREA
    )
    change = np.abs(blocks).max(axis=2)
    moved = change > max(_LEAST_CHANGE, _NOISES * float(np.median(change)))
    side = stride // _BLOCK
    cells = moved.reshape(height // stride, side, width // stride, side)
    return np.asarray(cells.any(axis=(1, 3)))


def smallest_crop(moved: NDArray[np.bool_], margin: int, largest_share: float) -> Crop | None:
    """Return the smallest rectangle around what moved; None where the whole frame is to be taken.

    Args:
        moved: as `moved_cells` returns it.
        margin: cells to add on each side, as far as the frame goes.
        largest_share: of the frame's cells; a larger crop is not worth it.

    Raises:
        ValueError: nothing moved.
    """
    rows, columns = np.flatnonzero(moved.any(axis=1)), np.flatnonzero(moved.any(axis=0))
    if not rows.size:
        raise ValueError("nothing moved")
    crop = Crop(
        max(0, int(rows[0]) - margin),
        min(moved.shape[0], int(rows[-1]) + 1 + margin),
        max(0, int(columns[0]) - margin),
        min(moved.shape[1], int(columns[-1]) + 1 + margin),
    )
    return crop if crop.cells <= largest_share * moved.size else None
