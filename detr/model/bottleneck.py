"""Encoder and decoder of the bottleneck, and the prior by which training counts bits.

The features that cross the cut are standardised by channel and reduced to a few latents a cell,
without a change of resolution. A latent counts in steps: at the usual rate it is rounded to an
integer. Training puts noise in the place of rounding (Balle et al., 2017, arXiv 1611.01704), and
draws the step anew for each sample, so that one model serves a range of rates.

Both parts are a linear map and beside it a network. They begin as nothing but the linear map, the
features' principal components, which loses nothing that it keeps: training has only to find out
what may be lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

LATENT_UNITS = 16
"""Latents leave the exported encoder as integers, in this fraction of a usual step."""

_LEAST_PROBABILITY = 1e-9
# Of the latents of a channel that is kept, so many are other than 0.
_LEAST_SOME = 1e-3
# Weights with a row for each channel of latents.
_OF_LATENTS = (
    "encoder.out.",
    "encoder.skip.",
    "encoder.log_gain",
    "decoder.log_gain",
    "prior.",
    "temporal_prior.",
)


@dataclass(frozen=True)
class BottleneckSizes:
    """What a bottleneck is made of.

    Attributes:
        features: channels of the features.
        channels: channels of the latents.
        encoder_width: channels of the encoder's hidden layers.
        decoder_width: channels of the decoder's hidden layers.
    """

    features: int
    channels: int
    encoder_width: int
    decoder_width: int


class LatentEncoder(nn.Module):
    """Features to latents, which are counted in usual steps."""

    mean: Tensor
    std: Tensor

    def __init__(self, sizes: BottleneckSizes) -> None:
        """Build with random weights; `mean` and `std` are those of no model yet."""
        super().__init__()
        width = sizes.encoder_width
        self.register_buffer("mean", torch.zeros(sizes.features))
        self.register_buffer("std", torch.ones(sizes.features))
        self.conv1 = nn.Conv2d(sizes.features, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, sizes.channels, 1)
        # What is linear in the features need not be learned by the layers before.
        self.skip = nn.Conv2d(sizes.features, sizes.channels, 1, bias=False)
        # Of each channel: how many steps its standard deviation spans.
        self.log_gain = nn.Parameter(torch.full((sizes.channels,), 0.0))

    def forward(self, features: Tensor) -> Tensor:
        """Latents [N,channels,h,w] of features [N,C,h,w]."""
        features = (features - self.mean[:, None, None]) / self.std[:, None, None]
        x = functional.silu(self.conv1(features))
        x = x + functional.silu(self.conv2(x))
        latents = self.out(x) + self.skip(features)
        return latents * self.log_gain.exp()[:, None, None]  # type: ignore[no-any-return]


class LatentDecoder(nn.Module):
    """Latents, rounded or not, to features."""

    mean: Tensor
    std: Tensor

    def __init__(self, sizes: BottleneckSizes) -> None:
        """Build with random weights; `mean` and `std` are those of no model yet."""
        super().__init__()
        width = sizes.decoder_width
        self.register_buffer("mean", torch.zeros(sizes.features))
        self.register_buffer("std", torch.ones(sizes.features))
        self.log_gain = nn.Parameter(torch.full((sizes.channels,), 0.0))
        self.conv1 = nn.Conv2d(sizes.channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, sizes.features, 1)
        self.skip = nn.Conv2d(sizes.channels, sizes.features, 1, bias=False)

    def forward(self, latents: Tensor) -> Tensor:
        """Features [N,C,h,w] of latents [N,channels,h,w]."""
        latents = latents * self.log_gain.exp()[:, None, None]
        x = functional.silu(self.conv1(latents))
        x = x + functional.silu(self.conv2(x))
        features = self.out(x) + self.skip(latents)
        return features * self.std[:, None, None] + self.mean[:, None, None]  # type: ignore[no-any-return]


class LatentPrior(nn.Module):
    """A logistic distribution of each channel's latents, by which training counts bits.

    The codec has better ones: it knows a latent's neighbours.
    """

    def __init__(self, channels: int) -> None:
        """Begin with one that is as wide as three usual steps."""
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.full((channels,), 0.0))

    def forward(self, latents: Tensor, step: Tensor) -> Tensor:
        """Bits of each of the latents [N,channels,h,w], in intervals of `step` [N,1,1,1]."""
        return _bits(_mass(latents - self.mean[:, None, None], self.log_scale, step))

    def some(self, step: float) -> Tensor:
        """Of each channel, how probable a level other than 0 is: [channels]."""
        scale = self.log_scale.exp()
        upper = torch.sigmoid((self.mean - step / 2) / scale)
        return upper + torch.sigmoid((-self.mean - step / 2) / scale)


class TemporalPrior(nn.Module):
    """The same given the frame before: a channel's latents stay about where they were, or move."""

    def __init__(self, channels: int) -> None:
        """Begin with as many that stay as that move."""
        super().__init__()
        self.log_scale_staying = nn.Parameter(torch.full((channels,), -2.0))
        self.log_scale_moving = nn.Parameter(torch.full((channels,), 0.0))
        self.staying = nn.Parameter(torch.zeros(channels))
        self.inherited = nn.Parameter(torch.ones(channels))

    def forward(self, latents: Tensor, before: Tensor, step: Tensor) -> Tensor:
        """As `LatentPrior`, given the latents of the frame before in the same shape."""
        staying = torch.sigmoid(self.staying)[:, None, None]
        moved = latents - self.inherited[:, None, None] * before
        stays = _mass(latents - before, self.log_scale_staying, step)
        moves = _mass(moved, self.log_scale_moving, step)
        return _bits(staying * stays + (1 - staying) * moves)


def _mass(centred: Tensor, log_scale: Tensor, step: Tensor) -> Tensor:
    """Probability of an interval of `step` around values [N,channels,h,w], logistic around 0."""
    scale = log_scale.exp()[:, None, None]
    # The tails are equal, and only below zero their difference is exact.
    centred = -centred.abs()
    return torch.sigmoid((centred + step / 2) / scale) - torch.sigmoid((centred - step / 2) / scale)


def _bits(probability: Tensor) -> Tensor:
    return -probability.clamp(min=_LEAST_PROBABILITY).log2()


class Bottleneck(nn.Module):
    """Encoder, decoder and priors."""

    def __init__(self, sizes: BottleneckSizes) -> None:
        """Build with random weights."""
        super().__init__()
        self.sizes = sizes
        self.encoder = LatentEncoder(sizes)
        self.decoder = LatentDecoder(sizes)
        self.prior = LatentPrior(sizes.channels)
        self.temporal_prior = TemporalPrior(sizes.channels)

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Become the principal components of features [M,C], standardised by channel."""
        mean, std = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
        standard = (features - mean) / std
        covariance = (standard.T @ standard / len(standard)).double()
        # Eigenvalues ascend.
        variances, axes = torch.linalg.eigh(covariance)
        axes = axes.flip(1)[:, : self.sizes.channels].float()
        for part in (self.encoder, self.decoder):
            part.mean.copy_(mean)
            part.std.copy_(std)
            for weight in part.out.parameters():
                weight.zero_()
        self.encoder.skip.weight.copy_(axes.T[:, :, None, None])
        self.decoder.skip.weight.copy_(axes[:, :, None, None])
        deviations = variances.flip(0)[: self.sizes.channels].clamp(min=1e-6).sqrt().float()
        # That a logistic distribution has.
        scale = (deviations * (3**0.5 / torch.pi)).log()
        self.prior.log_scale.copy_(scale)
        self.temporal_prior.log_scale_moving.copy_(scale - 1)

    @torch.no_grad()
    def pruned(self, step: float) -> Bottleneck:
        """The same without channels that are practically always 0 in steps of `step`.

        Those that say most come first, as the codec expects it. Only encoder and decoder are those
        of this bottleneck, which is what an export needs.
        """
        some = self.prior.some(step)
        kept = some.argsort(descending=True)[: int((some >= _LEAST_SOME).sum().clamp(min=1))]
        fewer = Bottleneck(replace(self.sizes, channels=len(kept)))
        columns = {"decoder.conv1.weight", "decoder.skip.weight"}
        rows = {name for name in self.state_dict() if name.startswith(_OF_LATENTS)}
        fewer.load_state_dict(
            {
                name: value[kept] if name in rows else value[:, kept] if name in columns else value
                for name, value in self.state_dict().items()
            }
        )
        return fewer
