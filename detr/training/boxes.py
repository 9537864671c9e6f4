"""Boxes as tensors: formats and generalised intersection over union."""

from __future__ import annotations

import torch
from torch import Tensor


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
