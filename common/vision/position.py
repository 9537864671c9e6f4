"""Sine positional encoding and padding mask at the resolution of the features.

They are inputs of the transformer half and not a part of its graph, so that the graph needs no
CumSum. Source: `models/position_encoding.py` of the official code, in float32 as there.
"""

from __future__ import annotations

import functools
import math
from typing import Dict, Tuple

import numpy as np

from common.bundle import Manifest
from common.domain.frames import FrameGeometry

PADDING_SCORE = -1e4
"""Added to attention scores of padded cells; finite in fp16 too, and exactly 0 after softmax."""

_TEMPERATURE = 10000
_EPSILON = np.float32(1e-6)


def inputs_beside_cut(manifest: Manifest, geometry: FrameGeometry) -> Dict[str, np.ndarray]:
    """What a bundle's transformer half takes for one frame beside the tensors of the cut, by name.

    Args:
        manifest: of the bundle.
        geometry: the input's size and its valid part.

    Returns:
        `pos` and `mask`, see `transformer_inputs`; nothing for a model that takes neither.
    """
    if manifest.position_channels is None:
        return {}
    grid = manifest.cut[0].grid(geometry.input_height, geometry.input_width)
    pos, mask = transformer_inputs(geometry, grid, manifest.position_channels)
    return {"pos": pos, "mask": mask}


def transformer_inputs(
    geometry: FrameGeometry, grid: Tuple[int, int], hidden_dim: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Compute the encoding and the mask for one frame's features.

    Args:
        geometry: the input's size and its valid part.
        grid: rows and columns of the features.
        hidden_dim: width of the transformer, a multiple of 4.

    Returns:
        pos, float32 [1,hidden_dim,rows,columns], and the additive mask, float32 [1,rows,columns]:
        0 on the picture, -1e4 on padding. Both arrays are read-only, because later calls return the
        same ones.
    """
    rows = _valid_cells(geometry.valid_height, geometry.input_height, grid[0])
    columns = _valid_cells(geometry.valid_width, geometry.input_width, grid[1])
    return _transformer_inputs(rows, columns, grid, hidden_dim)


def _valid_cells(valid: int, total: int, cells: int) -> int:
    """How many cells of a line are not padding when its mask is resized by the nearest.

    Cell i takes pixel floor(i * total / cells), computed in float32 as `torch.interpolate` does.
    """
    scale = np.float32(total) / np.float32(cells)
    source = np.floor(np.arange(cells, dtype=np.float32) * scale)
    return int(np.count_nonzero(source < valid))


# A stream repeats one shape; a folder of photographs has a few dozen. Of 25 x 34 cells and 256
# channels an entry is 0.9 MB.
@functools.lru_cache(maxsize=32)
def _transformer_inputs(
    valid_rows: int, valid_columns: int, grid: Tuple[int, int], hidden_dim: int
) -> Tuple[np.ndarray, np.ndarray]:
    valid = np.zeros(grid, bool)
    valid[:valid_rows, :valid_columns] = True
    row = _angle(valid.cumsum(axis=0, dtype=np.float32), axis=0)
    column = _angle(valid.cumsum(axis=1, dtype=np.float32), axis=1)
    features = hidden_dim // 2
    pos = np.concatenate([_encode(row, features), _encode(column, features)])[None]
    mask = np.where(valid, np.float32(0), np.float32(PADDING_SCORE))[None]
    pos.setflags(write=False)
    mask.setflags(write=False)
    return pos, mask


def _angle(count: np.ndarray, axis: int) -> np.ndarray:
    """Scale the number of cells so far by that of all valid cells in the line, to 0..2 pi."""
    last = np.take(count, [-1], axis=axis)
    return count / (last + _EPSILON) * np.float32(2 * math.pi)


def _encode(angle: np.ndarray, features: int) -> np.ndarray:
    """[rows,columns] to [features,rows,columns]: sine and cosine alternate."""
    exponent = 2 * (np.arange(0, features, 2) // 2) / features
    wavelength = np.float32(_TEMPERATURE) ** exponent.astype(np.float32)
    phase = angle / wavelength[:, None, None]
    encoded = np.empty((features,) + angle.shape, np.float32)
    encoded[0::2] = np.sin(phase)
    encoded[1::2] = np.cos(phase)
    return encoded
