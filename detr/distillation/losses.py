"""Losses between a student and its teacher."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from detr.training.losses import LossParts, LossWeights, generalized_iou, to_corners
from detr.training.processes import mean_over_processes


def feature_loss(student: Tensor, teacher: Tensor, padding: Tensor) -> Tensor:
    """Mean squared difference over channels and cells without padding, over all processes.

    Args:
        student: [N,C,h,w].
        teacher: [N,C,h,w].
        padding: [N,h,w] bool, true on padding.
    """
    valid = (~padding).to(student.dtype)
    difference = ((student - teacher).square().mean(dim=1) * valid).sum()
    return difference / mean_over_processes(valid.sum()).clamp(min=1)


def output_loss(
    student_logits: Tensor,
    student_boxes: Tensor,
    teacher_logits: Tensor,
    teacher_boxes: Tensor,
    weights: LossWeights,
) -> LossParts:
    """Compare what each query says, in each decoder layer, without matching.

    Student and teacher share the decoder and its queries, so equal queries look for equal things
    (KD-DETR, arXiv 2211.08071, calls them consistent distillation points). A query counts by the
    teacher's probability that it sees an object: for classes as the set loss weighs an object
    against none, for boxes by itself.

    Args:
        student_logits: [L,N,Q,K+1].
        student_boxes: [L,N,Q,4].
        teacher_logits: [L,N,Q,K+1].
        teacher_boxes: [L,N,Q,4].
        weights: `no_object` is used here; the others weigh the parts later.

    Returns:
        Kullback-Leibler divergence, L1 and GIoU, each a sum over layers of weighted means.
    """
    target = teacher_logits.float().log_softmax(dim=3)
    foreground = 1 - target[..., -1].exp()  # [L,N,Q]
    importance = foreground + weights.no_object * (1 - foreground)
    divergence = functional.kl_div(
        student_logits.float().log_softmax(dim=3), target, reduction="none", log_target=True
    ).sum(dim=3)
    student, teacher = student_boxes.float(), teacher_boxes.float()
    l1 = (student - teacher).abs().sum(dim=3)
    giou = 1 - generalized_iou(to_corners(student), to_corners(teacher))
    return LossParts(
        classes=_weighted_mean(divergence, importance),
        l1=_weighted_mean(l1, foreground),
        giou=_weighted_mean(giou, foreground),
    )


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum over layers of means over images and queries [L,N,Q], over all processes."""
    totals = mean_over_processes(weights.sum(dim=(1, 2)))
    return ((values * weights).sum(dim=(1, 2)) / totals.clamp(min=torch.finfo().tiny)).sum()
