"""The set loss with auxiliary losses (DETR paper, section 3.1; official `detr.py`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from detr.training.boxes import generalized_iou, to_corners
from detr.training.distributed import mean_over_processes
from detr.training.matcher import MatchCosts, match
from detr.training.targets import Batch


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; the paper's by default.

    Attributes:
        classes: cross-entropy.
        l1: of the boxes.
        giou: of the boxes.
        no_object: of the 'no object' class within the cross-entropy.
    """

    classes: float = 1.0
    l1: float = 5.0
    giou: float = 2.0
    no_object: float = 0.1


@dataclass(frozen=True)
class LossParts:
    """Scalars, unweighted: cross-entropy, L1 and GIoU."""

    classes: Tensor
    l1: Tensor
    giou: Tensor

    def total(self, weights: LossWeights) -> Tensor:
        """Return the weighted sum."""
        return weights.classes * self.classes + weights.l1 * self.l1 + weights.giou * self.giou


def set_loss(
    layer_logits: Tensor,
    layer_boxes: Tensor,
    batch: Batch,
    *,
    groups: int,
    costs: MatchCosts,
    weights: LossWeights,
) -> list[LossParts]:
    """Match and compare every layer's predictions, each group of queries apart.

    Normalised over all processes, so that the gradient does not depend on how a batch is split.

    Args:
        layer_logits: [L,N,groups*Q,K+1].
        layer_boxes: [L,N,groups*Q,4].
        batch: the objects.
        groups: how many sets of queries were asked at once (Group DETR, arXiv 2207.13085).
        costs: of the matcher.
        weights: `no_object` is used here; the others weigh the parts later.

    Returns:
        The parts of each layer, averaged over groups.
    """
    layers, images, queries = layer_logits.shape[:3]
    # LxNx(GQ)xC to (LNG)xQxC: every layer and group of an image is a prediction of its own.
    logits = layer_logits.float().reshape(layers * images * groups, queries // groups, -1)
    boxes = layer_boxes.float().reshape(layers * images * groups, queries // groups, 4)
    device = logits.device
    image = torch.arange(images, device=device).repeat_interleave(groups).repeat(layers)
    layer = torch.arange(layers, device=device).repeat_interleave(images * groups)
    counts = [count for count in batch.counts for _ in range(groups)] * layers
    found = match(
        logits, boxes, batch.classes[image], batch.boxes[image], counts=counts, costs=costs
    )

    wanted = torch.full(logits.shape[:2], logits.shape[2] - 1, dtype=torch.int64, device=device)
    matched_image = image[found.prediction]
    wanted[found.prediction, found.query] = batch.classes[matched_image, found.target]
    class_sums, class_weights = _weighted_cross_entropy(logits, wanted, layer, layers, weights)

    predicted = boxes[found.prediction, found.query]
    actual = batch.boxes[matched_image, found.target]
    l1 = (predicted - actual).abs().sum(dim=1)
    giou = 1 - generalized_iou(to_corners(predicted), to_corners(actual))
    matched_layer = layer[found.prediction]
    normalisers = mean_over_processes(
        torch.cat([class_weights, class_weights.new_full((1,), groups * sum(batch.counts))])
    )
    objects = normalisers[-1].clamp(min=1)
    return [
        LossParts(
            classes=class_sums[index] / normalisers[index],
            l1=l1[matched_layer == index].sum() / objects,
            giou=giou[matched_layer == index].sum() / objects,
        )
        for index in range(layers)
    ]


def _weighted_cross_entropy(
    logits: Tensor, wanted: Tensor, layer: Tensor, layers: int, weights: LossWeights
) -> tuple[Tensor, Tensor]:
    """Return for each layer the weighted sum of cross-entropies, and the sum of the weights."""
    class_weights = torch.ones(logits.shape[2], device=logits.device)
    class_weights[-1] = weights.no_object
    losses = functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), class_weights, reduction="none"
    ).view(wanted.shape)
    zeros = torch.zeros(layers, device=logits.device)
    sums = zeros.index_add(0, layer, losses.sum(dim=1))
    totals = zeros.index_add(0, layer, class_weights[wanted].sum(dim=1))
    return sums, totals
