"""The bottleneck's two parts in the form that is exported: integers between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.bundle import BottleneckPart
from common.codec.latent_levels import MAX_LATENT
from detr.model.bottleneck import (
    LATENT_UNITS,
    BottleneckSizes,
    LatentDecoder,
    LatentEncoder,
)


class EncoderPart(nn.Module):
    """Features to latents in units, which are integers."""

    def __init__(self, encoder: LatentEncoder) -> None:
        """Take over a trained encoder's convolutions; they must not be trained afterwards."""
        super().__init__()
        self.mean = _parameter(encoder.mean)
        self.scale = _parameter(1 / encoder.std)
        self.conv1, self.conv2, self.out = encoder.conv1, encoder.conv2, encoder.out
        self.skip = encoder.skip
        gain = encoder.log_gain.detach().exp() * LATENT_UNITS
        with torch.no_grad():
            self.out.weight *= gain[:, None, None, None]
            self.skip.weight *= gain[:, None, None, None]
            cast(Tensor, self.out.bias).mul_(gain)

    def forward(self, features: Tensor) -> Tensor:
        """Latents [N,channels,h,w] of features [N,C,h,w]."""
        features = (features - self.mean) * self.scale
        x = _silu(self.conv1(features))
        x = x + _silu(self.conv2(x))
        latents = self.out(x) + self.skip(features)
        # TensorRT 8.2 has no Round.
        # And not `clamp`: its limits would stand behind a Cast, which that parser does not read.
        return functional.hardtanh((latents + 0.5).floor(), -MAX_LATENT, MAX_LATENT)


class DecoderPart(nn.Module):
    """Latents in units to features."""

    def __init__(self, decoder: LatentDecoder) -> None:
        """Take over a trained decoder's convolutions; they must not be trained afterwards."""
        super().__init__()
        self.conv1, self.conv2, self.out = decoder.conv1, decoder.conv2, decoder.out
        self.skip = decoder.skip
        gain = decoder.log_gain.detach().exp() / LATENT_UNITS
        with torch.no_grad():
            self.conv1.weight *= gain[:, None, None]
            self.skip.weight *= gain[:, None, None] * decoder.std[:, None, None, None]
            self.out.weight *= decoder.std[:, None, None, None]
            cast(Tensor, self.out.bias).mul_(decoder.std).add_(decoder.mean)

    def forward(self, latents: Tensor) -> Tensor:
        """Features [N,C,h,w] of latents [N,channels,h,w]."""
        x = _silu(self.conv1(latents))
        x = x + _silu(self.conv2(x))
        return self.out(x) + self.skip(latents)  # type: ignore[no-any-return]


def part_of(kind: BottleneckPart, weights: Mapping[str, Tensor]) -> nn.Module:
    """Rebuild a part from its weights, by their names in the exported graph.

    Raises:
        KeyError: a weight is missing.
        RuntimeError: a weight is of another shape, or there is one too many.
    """
    width, inputs = weights["conv1.weight"].shape[:2]
    outputs = len(weights["out.weight"])
    part: nn.Module
    if kind is BottleneckPart.ENCODER:
        part = EncoderPart(LatentEncoder(BottleneckSizes(inputs, outputs, width, width)))
    else:
        part = DecoderPart(LatentDecoder(BottleneckSizes(outputs, inputs, width, width)))
    part.load_state_dict(dict(weights))
    return part


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone()[None, :, None, None])


def _silu(x: Tensor) -> Tensor:
    # Written out: ONNX has no such operator before opset 21.
    return x * torch.sigmoid(x)
