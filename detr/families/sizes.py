"""What crosses a cut, as a half itself shows it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.bundle import ShortestEdgeInput
from detr.families.base import CutTensor, Preparation

_TRACED = (96, 160)


def traced_size(preparation: Preparation) -> tuple[int, int]:
    """Height and width of the pixels that a half is traced with: the input's, if it has one."""
    policy = preparation.input
    return _TRACED if isinstance(policy, ShortestEdgeInput) else (policy.height, policy.width)


def is_dynamic(preparation: Preparation) -> bool:
    """Whether height and width differ from frame to frame."""
    return isinstance(preparation.input, ShortestEdgeInput)


@torch.inference_mode()
def cut_tensors(backbone: nn.Module, preparation: Preparation) -> tuple[CutTensor, ...]:
    """Return the tensors that a backbone half gives, with names by stride if there are several."""
    height, width = traced_size(preparation)
    levels = backbone(torch.zeros(1, 3, height, width))
    levels = (levels,) if isinstance(levels, Tensor) else levels
    strides = [round(height / level.shape[2]) for level in levels]
    if len(levels) == 1:
        return (CutTensor("features", levels[0].shape[1], strides[0]),)
    return tuple(
        CutTensor(f"features_{stride}", level.shape[1], stride)
        for stride, level in zip(strides, levels, strict=True)
    )
