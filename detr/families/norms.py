"""Frozen norms as plain ones, which the exporter folds into the convolution before them."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)
# The constant in the forward of every `...FrozenBatchNorm2d` of transformers.
_EPSILON = 1e-5


@torch.no_grad()
def thaw_norms(module: Module) -> Module:
    """Replace, in place, each frozen norm below `module` by an equal `nn.BatchNorm2d`."""
    for name, child in module.named_children():
        if type(child).__name__.endswith("FrozenBatchNorm2d"):
            norm = nn.BatchNorm2d(len(child.get_buffer("weight")), eps=_EPSILON)
            norm.load_state_dict(child.state_dict(), strict=False)
            setattr(module, name, norm.eval())
        else:
            thaw_norms(child)
    return module
