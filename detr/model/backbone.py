"""The backbone: a ResNet, positional encoding, and what padding becomes at their resolution."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from detr.model.resnet import NormLayer, ResNet

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


class Backbone(nn.Module):
    """A ResNet under the name `body`."""

    def __init__(self, name: str, base_width: int, dilation: bool, norm: NormLayer) -> None:
        """Build; see `detr.model.resnet.ResNet`."""
        super().__init__()
        self.body = ResNet(name, base_width, dilation, norm)
        self.num_channels = self.body.num_channels

    def forward(self, images: Tensor) -> Tensor:
        """C5 features of images [N,3,H,W]: [N,num_channels,h,w]."""
        return self.body(images)  # type: ignore[no-any-return]


class Joiner(nn.Sequential):
    """Backbone and positional encoding side by side: `backbone.0` and `backbone.1`."""

    def __init__(self, backbone: Backbone, position_embedding: PositionEmbeddingSine) -> None:
        """Join."""
        super().__init__(backbone, position_embedding)

    @property
    def body(self) -> ResNet:
        """The ResNet, whose `stages` are there for losses on features."""
        return cast(Backbone, self[0]).body

    def forward(self, images: Tensor, padding: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Features, and padding and positional encoding at their resolution.

        Args:
            images: [N,3,H,W].
            padding: [N,H,W] bool, true on padding.

        Returns:
            features [N,C,h,w], padding [N,h,w] bool, encoding [N,d,h,w].
        """
        features: Tensor = self[0](images)
        padding = resize_padding(padding, features.shape[-2], features.shape[-1])
        return features, padding, self[1](padding)


def resize_padding(padding: Tensor, height: int, width: int) -> Tensor:
    """Padding [N,H,W] bool at another resolution, by nearest neighbour (official code)."""
    return functional.interpolate(padding[None].float(), size=(height, width)).bool()[0]
