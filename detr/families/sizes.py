"""What crosses a cut, as a half itself shows it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.bundle import CutTensor, StretchInput
from common.bundle.cut import ONLY_TENSOR
from detr.families.base import Preparation

_TRACED = (96, 160)


def traced_size(preparation: Preparation) -> tuple[int, int]:
    """Height and width of the pixels that a half is traced with: the input's, if it has one."""
    policy = preparation.input
    return (policy.height, policy.width) if isinstance(policy, StretchInput) else _TRACED


def is_dynamic(preparation: Preparation) -> bool:
    """Whether the halves take inputs of any height and width."""
    return not isinstance(preparation.input, StretchInput)


@torch.inference_mode()
def cut_tensors(backbone: nn.Module, preparation: Preparation) -> tuple[CutTensor, ...]:
    """Return the tensors that a backbone half gives, with names by stride if there are several."""
    height, width = traced_size(preparation)
    levels = backbone(torch.zeros(1, 3, height, width))
    levels = (levels,) if isinstance(levels, Tensor) else levels
    strides = [round(height / level.shape[2]) for level in levels]
    if len(levels) == 1:
        (level,), (stride,) = levels, strides
        return (CutTensor(name=ONLY_TENSOR, channels=level.shape[1], stride=stride),)
    return tuple(
        CutTensor(name=f"{ONLY_TENSOR}_{stride}", channels=level.shape[1], stride=stride)
        for stride, level in zip(strides, levels, strict=True)
    )
