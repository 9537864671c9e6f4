"""The set loss with auxiliary losses: boxes, bipartite matching, and what is summed.

Source: DETR paper, section 3.1; `matcher.py` and `detr.py` of the official code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from detr.training.batches import Batch
from detr.training.processes import mean_over_processes


def to_corners(boxes: Tensor) -> Tensor:
    """[...,4] centre x, centre y, width, height to x_min, y_min, x_max, y_max."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al., 2019, arXiv 1902.09630) of boxes given by their corners.

    Args:
        a: [...,4]; broadcast against b.
        b: [...,4].

    Returns:
        [...], in -1..1.
    """
    intersection = _area(
        torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    )
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - intersection
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    # Predicted boxes may have no extent in the first steps.
    tiny = torch.finfo(a.dtype).tiny
    return intersection / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def _area(low: Tensor, high: Tensor) -> Tensor:
    width, height = (high - low).clamp(min=0).unbind(dim=-1)
    return width * height


@dataclass(frozen=True)
class MatchCosts:
    """Weights of the matching costs; the paper's by default."""

    class_probability: float = 1.0
    l1: float = 5.0
    giou: float = 2.0


@dataclass(frozen=True)
class Matches:
    """M matched pairs over a batch of P predictions; int64 [M] each.

    Attributes:
        prediction: which of the P predictions (an image as seen by a layer and a group).
        query: which of its queries.
        target: which of its image's objects.
    """

    prediction: Tensor
    query: Tensor
    target: Tensor


@torch.no_grad()
def match(
    logits: Tensor,
    boxes: Tensor,
    target_classes: Tensor,
    target_boxes: Tensor,
    *,
    counts: Sequence[int],
    costs: MatchCosts,
) -> Matches:
    """Assign each object its own query at the least total cost.

    Args:
        logits: [P,Q,K+1].
        boxes: [P,Q,4], centre x, centre y, width, height.
        target_classes: int64 [P,T].
        target_boxes: [P,T,4].
        counts: objects of each prediction's image; when more than Q, only Q are matched.
        costs: weights.
    """
    matrices = cost_matrices(logits, boxes, target_classes, target_boxes, costs).cpu().numpy()
    pairs = [
        linear_sum_assignment(matrix[:, :count])
        for matrix, count in zip(matrices, counts, strict=True)
    ]
    found = np.empty((3, sum(len(rows) for rows, _ in pairs)), np.int64)
    found[0] = np.repeat(np.arange(len(pairs)), [len(rows) for rows, _ in pairs])
    for row in (0, 1):
        np.concatenate([pair[row] for pair in pairs], out=found[row + 1])
    # One transfer there and one back, for all layers and groups at once.
    return Matches(*torch.from_numpy(found).to(logits.device))


def cost_matrices(
    logits: Tensor,
    boxes: Tensor,
    target_classes: Tensor,
    target_boxes: Tensor,
    costs: MatchCosts,
) -> Tensor:
    """[P,Q,T]: -probability of the object's class, L1 and -GIoU, weighted; shapes as in `match`."""
    probabilities = logits.float().softmax(dim=2)
    wanted = target_classes[:, None, :].expand(-1, logits.shape[1], -1)
    class_cost = -probabilities.gather(2, wanted)
    query_boxes, object_boxes = boxes.float()[:, :, None], target_boxes.float()[:, None]
    l1_cost = (query_boxes - object_boxes).abs().sum(dim=3)
    giou_cost = -generalized_iou(to_corners(query_boxes), to_corners(object_boxes))
    return costs.class_probability * class_cost + costs.l1 * l1_cost + costs.giou * giou_cost


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; the paper's by default.

    Attributes:
        classes: weight of the cross-entropy.
        l1: weight of the boxes' L1 distance.
        giou: weight of the boxes' GIoU loss.
        no_object: weight of the class 'no object' within the cross-entropy.
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
    """Match and compare every layer's predictions, one group of queries at a time.

    Normalised over all processes, so that the gradient does not depend on how a batch is split.

    Args:
        layer_logits: [L,N,groups*Q,K+1].
        layer_boxes: [L,N,groups*Q,4].
        batch: the objects.
        groups: how many sets of queries were asked at once (Group DETR, arXiv 2207.13085).
        costs: weights of the matching costs.
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
