"""Sine positional encoding of a two-dimensional grid (DETR paper, appendix A.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

TEMPERATURE = 10000
EPSILON = 1e-6


class PositionEmbeddingSine(nn.Module):
    """Sines and cosines of each cell's place within the valid part of its image.

    Half the channels encode the row, half the column, both scaled to 0..2 pi.

    Source: `models/position_encoding.py` of the official code, with `normalize=True`.
    """

    def __init__(self, hidden_dim: int) -> None:
        """Encode into `hidden_dim` channels, a multiple of 4."""
        super().__init__()
        self.features_per_axis = hidden_dim // 2

    def forward(self, padding: Tensor) -> Tensor:
        """Encode a grid.

        Args:
            padding: [N,h,w] bool, true where a cell is padding.

        Returns:
            [N,hidden_dim,h,w] float32: the rows' channels, then the columns'.
        """
        valid = ~padding
        row = valid.cumsum(1, dtype=torch.float32)
        column = valid.cumsum(2, dtype=torch.float32)
        row = row / (row[:, -1:, :] + EPSILON) * (2 * math.pi)
        column = column / (column[:, :, -1:] + EPSILON) * (2 * math.pi)
        return torch.cat([self._encode(row), self._encode(column)], dim=3).permute(0, 3, 1, 2)

    def _encode(self, angle: Tensor) -> Tensor:
        """[N,h,w] to [N,h,w,features_per_axis]: sine and cosine alternate."""
        index = torch.arange(self.features_per_axis, dtype=torch.float32, device=angle.device)
        wavelength = TEMPERATURE ** (2 * (index // 2) / self.features_per_axis)
        phase = angle[..., None] / wavelength
        return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], dim=4).flatten(3)
