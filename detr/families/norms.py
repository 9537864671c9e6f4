"""Norms in the form that the exporter folds into the convolution before them, alike everywhere."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
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


@torch.no_grad()
def settle_norms(module: nn.Module) -> None:
    """Make each norm below `module`, in place, an equal one of mean 0 and variance 1.

    So the exporter, which divides by the root of the variance, has nothing left to round: torch's
    square root is off by the last bit on some processors, and the bundles of one model would
    differ with the machine that made them. Numpy rounds as IEEE 754 says.
    """
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            weight, bias, mean, variance = (
                getattr(norm, name).detach().numpy()
                for name in ("weight", "bias", "running_mean", "running_var")
            )
            scale = weight / np.sqrt(variance + np.float32(norm.eps))
            bias -= mean * scale
            weight[...], mean[...], variance[...] = scale, 0, 1
            norm.eps = 0.0
