"""A training-only head that detects from every token of the encoder's output.

Attention passes on values without positions, so early in training the decoder cannot tell where
anything is. Asking each token for its object's absolute box puts the position into the memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from detr.model.detr import MLP
from detr.training.boxes import generalized_iou, to_corners
from detr.training.distributed import mean_over_processes
from detr.training.losses import LossParts
from detr.training.targets import Batch

NO_OBJECT_WEIGHT = 0.2
"""Of the 'no object' class; larger than the decoder's, since most tokens near one see it."""

INNER_SHARE = 0.6
"""A token stands for an object when it lies in this middle part of its box."""


class DenseHead(nn.Module):
    """Class and box of every token."""

    def __init__(self, hidden_dim: int, classes: int) -> None:
        """Build for tokens of `hidden_dim` channels; 'no object' is added to `classes`."""
        super().__init__()
        self.class_embed = nn.Linear(hidden_dim, classes + 1)
        self.bbox_embed = MLP(hidden_dim, hidden_dim, 4, layers=3)

    def forward(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Memory [N,d,h,w] to logits [N,h,w,K+1] and boxes [N,h,w,4] in 0..1."""
        tokens = memory.permute(0, 2, 3, 1)
        return self.class_embed(tokens), self.bbox_embed(tokens).sigmoid()


def dense_loss(
    logits: Tensor, boxes: Tensor, padding: Tensor, batch: Batch, stride: float
) -> LossParts:
    """Compare every token with the smallest object whose middle it lies in.

    Args:
        logits: [N,h,w,K+1].
        boxes: [N,h,w,4].
        padding: [N,h,w] bool; padded tokens are left out.
        batch: the objects.
        stride: input pixels a token.
    """
    target, positive = assign_tokens(batch, logits.shape[1], logits.shape[2], stride)
    positive &= ~padding
    no_object = logits.shape[3] - 1
    image = torch.arange(len(batch.counts), device=logits.device)[:, None, None]
    wanted = torch.where(positive, batch.classes[image, target], no_object)
    class_weights = torch.ones(no_object + 1, device=logits.device)
    class_weights[-1] = NO_OBJECT_WEIGHT
    losses = functional.cross_entropy(
        logits.float().flatten(0, 2), wanted.flatten(), class_weights, reduction="none"
    )
    valid = ~padding.flatten()
    predicted = boxes.float()[positive]
    actual = batch.boxes[image, target][positive]
    l1 = (predicted - actual).abs().sum()
    giou = (1 - generalized_iou(to_corners(predicted), to_corners(actual))).sum()
    weight_sum = class_weights[wanted.flatten()][valid].sum()
    normalisers = mean_over_processes(torch.stack([weight_sum, positive.sum().float()]))
    positives = normalisers[1].clamp(min=1)
    return LossParts(losses[valid].sum() / normalisers[0], l1 / positives, giou / positives)


def assign_tokens(batch: Batch, height: int, width: int, stride: float) -> tuple[Tensor, Tensor]:
    """Return for each token [N,height,width] which object it stands for, and whether for any."""
    device = batch.boxes.device
    rows = (torch.arange(height, device=device) + 0.5) * stride
    columns = (torch.arange(width, device=device) + 0.5) * stride
    # [N,1,...] in 0..1 of the valid part, as boxes are.
    y = rows[None] / batch.valid_sizes[:, :1]
    x = columns[None] / batch.valid_sizes[:, 1:]
    centre, size = batch.boxes[..., :2], batch.boxes[..., 2:]
    inside_x = (x[:, None] - centre[..., :1]).abs() < INNER_SHARE / 2 * size[..., :1]
    inside_y = (y[:, None] - centre[..., 1:]).abs() < INNER_SHARE / 2 * size[..., 1:]
    inside = inside_y[..., :, None] & inside_x[..., None, :]  # [N,T,h,w]
    area = size.prod(dim=2)[..., None, None].expand(inside.shape)
    smallest, target = torch.where(inside, area, torch.inf).min(dim=1)
    return target, smallest.isfinite()
