"""Bipartite matching of queries and objects (DETR paper, equation 1; official `matcher.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detr.training.boxes import generalized_iou, to_corners


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
