"""What the odds of a decision depend on: classes of the levels that both ends know already.

All is computed in integers, so that it is the same on every machine. docs/codecs.md has the
definitions in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, Tuple

import numpy as np

GROUPS = 4
"""Channels are decided in so many groups; a later one knows what the earlier ones did."""
STEPS = 6
"""Magnitudes above 2 are counted up by so many decisions before the rest is written in bits."""
LONGEST_REST = 16
"""The most bits of that rest."""
PART = 256
"""Shares are counted in parts of 1/256."""

_MOST_SIGNS = 8
_FILLED = np.array((8, 20, 32, 48, 64, 80, 100, 124, 152, 188))
_AROUND_BEFORE = np.array((1, 3, 6, 12, 24, 48, 96))
_CELL = np.array((1, 10, 20, 33, 51, 77, 102, 141))
_AROUND = np.array((1, 5, 10, 20, 33, 51, 77, 102))
_CURVE = np.array((-8, -4, -2, -1, 0, 1, 2, 3, 5, 9))
_MOTION = np.array((-26, -13, -6, -3, -1, 0, 1, 3, 6, 13, 26))


@dataclass(frozen=True)
class Size:
    """How many entries a table has: `channel` for each channel, and `fixed` besides."""

    channel: int = 0
    fixed: int = 0

    def entries(self, channels: int) -> int:
        """For so many channels of latents."""
        return self.channel * channels + self.fixed


def _by_group(bounds: np.ndarray) -> Size:
    return Size(fixed=1 + (GROUPS - 1) * (len(bounds) + 1))


_MORE = {"channel": Size(channel=1), "step": Size(fixed=STEPS)}
_LONGER = {"bits": Size(fixed=LONGEST_REST)}
KINDS: Dict[str, Dict[str, Size]] = {
    "key_some": {
        "channel": Size(channel=1),
        "agree": Size(fixed=_MOST_SIGNS + 2),
        "cell": _by_group(_FILLED),
    },
    "key_positive": {"channel": Size(channel=1), "signs": Size(fixed=2 * _MOST_SIGNS + 2)},
    "key_two": {
        "channel": Size(channel=1),
        "agree": Size(fixed=_MOST_SIGNS + 2),
        "filled": Size(fixed=len(_FILLED) + 1),
    },
    "key_more": _MORE,
    "key_longer": _LONGER,
    "next_changed": {
        "level": Size(channel=4),
        "before": Size(fixed=2),
        "around_before": Size(fixed=len(_AROUND_BEFORE) + 1),
        "around": _by_group(_AROUND),
    },
    "next_up": {
        "level": Size(channel=7),
        "curve": Size(fixed=len(_CURVE) + 1),
        "motion": Size(fixed=len(_MOTION) + 1),
    },
    "next_two": {"level": Size(channel=4), "cell": Size(fixed=len(_CELL) + 1)},
    "next_more": _MORE,
    "next_longer": _LONGER,
}
"""Kind of decision -> its tables, whose entries are added up to its log-odds."""


@dataclass(frozen=True)
class Grid:
    """What follows from the shape alone.

    Attributes:
        channel: intp [channels,rows,columns], of each level.
        parts: the cells of each colour of a chessboard: intp indices of row-major cells.
        groups: the channels of each group.
    """

    channel: np.ndarray
    parts: Tuple[np.ndarray, np.ndarray]
    groups: Tuple[slice, ...]


@lru_cache(maxsize=64)
def grid_of(shape: Tuple[int, int, int]) -> Grid:
    """The grid of levels [channels,rows,columns]."""
    channels, rows, columns = shape
    colour = (np.arange(rows)[:, None] + np.arange(columns)) % 2
    bounds = [channels * index // GROUPS for index in range(GROUPS + 1)]
    channel = np.repeat(np.arange(channels), rows * columns).reshape(shape)
    return Grid(
        channel=channel,
        parts=(np.flatnonzero(colour == 0), np.flatnonzero(colour == 1)),
        groups=tuple(slice(first, last) for first, last in zip(bounds, bounds[1:])),
    )


def four_around(values: np.ndarray) -> np.ndarray:
    """The sum of each cell's neighbours above, below, left and right, of [...,rows,columns]."""
    total = np.zeros_like(values)
    total[..., 1:, :] += values[..., :-1, :]
    total[..., :-1, :] += values[..., 1:, :]
    total[..., :, 1:] += values[..., :, :-1]
    total[..., :, :-1] += values[..., :, 1:]
    return total


def nine_around(values: np.ndarray) -> np.ndarray:
    """The sum of each cell and its eight neighbours, of [rows,columns]."""
    tall = values.copy()
    tall[1:] += values[:-1]
    tall[:-1] += values[1:]
    total = tall.copy()
    total[:, 1:] += tall[:, :-1]
    total[:, :-1] += tall[:, 1:]
    return total


def _class(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    return bounds.searchsorted(values, side="right")


def neighbours_signs(small: np.ndarray, cells: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """What the neighbours of a key frame's second part tell.

    Args:
        small: the levels of the first part between -2 and 2, and 0: int32 [channels,rows,columns].
        cells: the second part's.

    Returns:
        Classes [channels,cells] of the sum of a level's four neighbours: of its size, and with its
        sign. Class 0 is that of the first part, which knows nothing.
    """
    total = four_around(small).reshape(len(small), -1)[:, cells]
    return 1 + np.abs(total), 1 + _MOST_SIGNS + total


def cell_filled(count: np.ndarray, before: int, group: int) -> np.ndarray:
    """Class of how many levels of a cell are not 0, in the channels of the groups before."""
    if not before:
        return np.zeros(count.shape, np.intp)
    return 1 + (group - 1) * (len(_FILLED) + 1) + _class(PART * count // before, _FILLED)


def filled(count: np.ndarray, channels: int) -> np.ndarray:
    """Class of how many levels of a cell are not 0, in all channels."""
    return _class(PART * count // channels, _FILLED)


def around_changed(count: np.ndarray, before: int, group: int) -> np.ndarray:
    """Class of how many levels of the eight cells around changed, in the groups before."""
    if not before:
        return np.zeros(count.shape, np.intp)
    share = PART * (nine_around(count) - count) // (8 * before)
    return 1 + (group - 1) * (len(_AROUND) + 1) + _class(share, _AROUND)


def changed(count: np.ndarray, channels: int) -> np.ndarray:
    """Class of how many levels of a cell changed, in all channels."""
    return _class(PART * count // channels, _CELL)


def changed_before(count: np.ndarray, channels: int) -> np.ndarray:
    """Class of how many levels of the eight cells around changed in the reference."""
    return _class(PART * (nine_around(count) - count) // (8 * channels), _AROUND_BEFORE)


def curve_and_motion(
    levels: np.ndarray, change: np.ndarray, at: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Where a level may go to: towards its neighbours, and on with what moves.

    Args:
        levels: of the reference, at most 127 in size: int32 [channels,rows,columns].
        change: what was added to them in the reference, at most 127 in size.
        at: of which levels to tell, as row-major indices [n].

    Returns:
        Classes [n] of the curvature, and of the change that the movement of the nine cells around
        in the reference explains: its slopes times the flow that fits its change best.
    """
    cells = levels.shape[1] * levels.shape[2]
    curvature, slope_x = np.zeros_like(levels), np.zeros_like(levels)
    down = levels[:, :-1] - levels[:, 1:]
    slope_y = np.zeros_like(levels)
    slope_y[:, 1:] = down
    curvature[:, 1:] = down
    slope_y[:, :-1] += down
    curvature[:, :-1] -= down
    right = levels[:, :, :-1] - levels[:, :, 1:]
    slope_x[:, :, 1:] = right
    curvature[:, :, 1:] += right
    slope_x[:, :, :-1] += right
    curvature[:, :, :-1] -= right
    motion = np.zeros(len(at), np.int64)
    for slope in (slope_y, slope_x):
        power = nine_around((slope * slope).sum(axis=0, dtype=np.int64)) + 1
        flow = 64 * nine_around((slope * change).sum(axis=0, dtype=np.int64)) // power
        motion += flow.ravel()[at % cells] * slope.ravel()[at]
    return _class(curvature.ravel()[at], _CURVE), _class(motion, _MOTION)
