"""Batch normalisation whose statistics and affine parameters are fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NormLayer = Callable[[int], nn.Module]
"""Makes a normalisation layer for a number of channels: `FrozenBatchNorm2d`, `nn.BatchNorm2d`."""

EPSILON = 1e-5
"""Added to the variance; the value of `nn.BatchNorm2d`, so that its weights mean the same here."""


class FrozenBatchNorm2d(nn.Module):
    """`weight * (x - running_mean) / sqrt(running_var + 1e-5) + bias`, all four as buffers.

    A state of `nn.BatchNorm2d` loads as it is: names and shapes agree, and its
    `num_batches_tracked`, which means nothing here, is passed over.

    Source: `models/backbone.py` of the official code.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        """Start as the identity (up to epsilon)."""
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The layer as `x * scale + shift`, both [C]."""
        scale = self.weight * (self.running_var + EPSILON).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N,C,H,W]."""
        scale, shift = self.scale_and_shift()
        return x * scale[:, None, None] + shift[:, None, None]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
