"""What a bottleneck's training minimises: bits, and how far a model's answers move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detr.bottleneck.recipe import Weights
from detr.bottleneck.signals import Signals
from detr.distillation.losses import output_loss
from detr.model import DETR
from detr.model.bottleneck import Bottleneck
from detr.training.task import WEIGHTS

LOSS_NAMES = ("loss", "bits", "temporal_bits", "features", "memory", "outputs")

# The step's power by which the weight of the rate grows: the error of rounding grows with its
# square, so that this keeps the balance of both that is best at the usual step.
_RATE_POWER = 2.0
# Where a latent keeps the level of the frame before, its error is up to a whole step, not half.
_KEPT_SHARE = 0.5
_MOST_KEPT = 1.1
# While the transformer is tuned, so many samples show it the features themselves, so that it goes
# on to serve the other codecs.
_CLEAN_SHARE = 0.25


@dataclass(frozen=True)
class Noise:
    """What takes the place of rounding in one batch of N samples.

    Attributes:
        step: [N,1,1,1], from level to level.
        reach: [N,1,1,1], the largest error of a latent.
        generator: of the noise itself.
    """

    step: Tensor
    reach: Tensor
    generator: torch.Generator

    def uniform(self, like: Tensor, reach: Tensor) -> Tensor:
        """Draw noise between -reach and reach, in the shape of `like`."""
        drawn = torch.rand(like.shape, generator=self.generator).to(like.device)
        return (2 * drawn - 1) * reach.to(like.device)


def draw_noise(count: int, steps_range: Sequence[float], generator: torch.Generator) -> Noise:
    """Draw a step for each of `count` samples, and for some the larger error of kept latents."""
    low, high = (torch.tensor(value).log() for value in steps_range)
    drawn = torch.rand(3, count, 1, 1, 1, generator=generator)
    step = (low + (high - low) * drawn[0]).exp()
    kept = 0.5 + (_MOST_KEPT - 0.5) * drawn[1]
    return Noise(step, step * torch.where(drawn[2] < _KEPT_SHARE, kept, 0.5), generator)


def losses(
    bottleneck: Bottleneck,
    model: DETR,
    signals: Signals,
    weights: Weights,
    noise: Noise,
    *,
    tuned: bool = False,
) -> Tensor:
    """Return the losses of `LOSS_NAMES`, the one to minimise first; bits are those of a cell.

    Args:
        bottleneck: what is trained.
        model: whose transformer interprets the decoded features.
        signals: what the model says without the bottleneck.
        weights: of the parts.
        noise: of this batch.
        tuned: whether the transformer is trained as well.
    """
    valid = (~signals.padding).float()
    latents = bottleneck.encoder(signals.features)
    rounded = latents + noise.uniform(latents, noise.step / 2)
    step = noise.step.to(rounded.device)
    bits = bottleneck.prior(rounded, step).sum(dim=1)
    temporal_bits = torch.zeros_like(bits)
    if weights.temporal_rate:
        before = bottleneck.encoder(signals.before)
        before = before + noise.uniform(before, noise.step / 2)
        temporal_bits = bottleneck.temporal_prior(rounded, before, step).sum(dim=1)
    decoded = bottleneck.decoder(latents + noise.uniform(latents, noise.reach))
    pos = model.backbone[1](signals.padding)
    clean = round(_CLEAN_SHARE * len(decoded)) if tuned else 0
    shown = torch.cat([signals.features[:clean], decoded[clean:]])
    output = model.interpret(shown, signals.padding, pos)
    rate = weights.rate * bits + weights.temporal_rate * temporal_bits
    rate = _mean(rate * step[:, 0] ** _RATE_POWER, valid)
    std = bottleneck.encoder.std[:, None, None]
    features = _mean(((decoded - signals.features) / std).square().mean(dim=1), valid)
    memory = _mean((output.memory - signals.memory).square().mean(dim=1), valid)
    memory = memory / _mean(signals.memory.square().mean(dim=1), valid)
    outputs = output_loss(
        output.layer_logits,
        output.layer_boxes,
        signals.logits.transpose(0, 1),
        signals.boxes.transpose(0, 1),
        WEIGHTS,
    ).total(WEIGHTS)
    total = rate + weights.features * features + weights.memory * memory + weights.outputs * outputs
    means = (_mean(bits, valid), _mean(temporal_bits, valid))
    return torch.stack([total, *means, features, memory, outputs])


def trained_parts(bottleneck: Bottleneck, model: DETR, *, tuned: bool) -> list[nn.Module]:
    """The modules whose weights are trained."""
    if not tuned:
        return [bottleneck]
    return [bottleneck, model.transformer, model.query_embed, model.class_embed, model.bbox_embed]


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of values [N,h,w] over valid cells [N,h,w]."""
    return (values * valid).sum() / valid.sum().clamp(min=1)
