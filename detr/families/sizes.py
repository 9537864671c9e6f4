"""What crosses a cut, as a half itself shows it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.bundle import CutTensor, StretchInput
from common.bundle.cut import ONLY_TENSOR
from detr.errors import WeightsError
from detr.families.base import Preparation

_TRACED = (96, 160)


def traced_size(preparation: Preparation) -> tuple[int, int]:
    """Height and width of the pixels that a half is traced with: the input's, if it has one."""
    policy = preparation.input
    return (policy.height, policy.width) if isinstance(policy, StretchInput) else _TRACED


def is_dynamic(preparation: Preparation) -> bool:
    """Whether the halves take inputs of any height and width."""
    return not isinstance(preparation.input, StretchInput)


def require_cells(
    preparation: Preparation, strides: Sequence[int], multiple: int, queries: int
) -> None:
    """Refuse an input whose levels do not fit each other, or have fewer cells than are proposed.

    Args:
        preparation: with the input, of one size.
        strides: of the levels.
        multiple: of which height and width have to be, pixels.
        queries: cells that the encoder has to propose.

    Raises:
        WeightsError: the input does not fit the model.
    """
    height, width = traced_size(preparation)
    if height % multiple or width % multiple:
        raise WeightsError(
            f"an input of {height} x {width} does not fit this model: height and width have to be "
            f"a multiple of {multiple}."
        )
    cells = sum((height // stride) * (width // stride) for stride in strides)
    if cells < queries:
        raise WeightsError(
            f"an input of {height} x {width} is too small for this model: it has {cells} cells, of "
            f"which {queries} would be proposed."
        )


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
