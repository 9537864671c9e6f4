"""Random weights that stand in for trained ones: to try a model out, and to compare engines.

Freshly initialised, these models say nearly the same of every proposal, whatever the frame. Here
every layer passes on about the spread that it gets, and scores and boxes differ by query and frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_CLASS_BIAS, _BIAS_SPREAD = -4.0, 0.1
_POSITION_SPREAD = 0.5
# Of DETR and Conditional DETR: what a ResNet gives is nearly the same everywhere, but for its mean.
_UNNORMED = "input_projection"
# Their queries begin with nothing of their own. They differ by where the first decoder layer looks,
# and what they see there has to outweigh what is common to all. The layers after it keep that
# difference: with the same gains as the first, each would magnify rounding errors by a third.
_LEARNED_QUERIES = ("detr", "conditional_detr")
_LEARNED_QUERIES_GAINS = (
    (re.compile(r"encoder\.layers\.\d+\.self_attn\.o_proj$"), 0.3),
    (re.compile(r"decoder\.layers\.\d+\.self_attn\.o_proj$"), 0.2),
    (re.compile(r"\.layers\.0\.encoder_attn\.o_proj$"), 3.0),
    (re.compile(r"\.encoder_attn\.o_proj$"), 0.5),
    (re.compile(r"\.mlp\."), 0.5),
    (re.compile(r"decoder\.layers\.0\..+\.[qk]_(?:content|pos|pos_sine)_proj$"), 2.2),
    (re.compile(r"decoder\.layers\.0\.encoder_attn\.[qk]_proj$"), 2.2),
)
# Cells at the border are masked, and all score what this makes of 0: less than any other cell does.
_PROPOSING = "enc_output.0"
# Of what moves boxes and where features are read: noise differs from cell to cell, so that a large
# gain would magnify rounding errors.
_BOX_GAIN = 0.2
# So that most of what a ReLU gets is above 0: otherwise each layer magnifies rounding errors.
_NORM_BIAS = 2.0


@torch.no_grad()
def spread_weights(model: nn.Module, seed: int, input_size: tuple[int, int]) -> None:
    """Replace a model's weights, in place; the same seed gives the same ones.

    Args:
        model: of transformers, in evaluation mode.
        seed: of the weights and of the noise that the norms are adapted to.
        input_size: height and width of that noise.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                _draw(
                    module,
                    _gain(model, name, module),
                    _CLASS_BIAS if _is_class_head(model, module) else 0.0,
                )
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight)
            else:
                _draw_own(module)
            if name.endswith(_PROPOSING):
                module.bias.zero_()
        with _adapting_norms(model):
            model(torch.randn(2, 3, *input_size))


def _draw(layer: nn.Linear | nn.Conv2d, gain: float, bias: float) -> None:
    inputs = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=gain / inputs**0.5)
    if layer.bias is not None:
        nn.init.normal_(layer.bias, bias, _BIAS_SPREAD)


def _draw_own(module: nn.Module) -> None:
    """Draw what a module holds itself, such as positions; scales and constants have one axis."""
    for parameter in module.parameters(recurse=False):
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=_POSITION_SPREAD)


def _gain(model: Any, name: str, layer: nn.Linear | nn.Conv2d) -> float:
    if model.config.model_type in _LEARNED_QUERIES:
        for pattern, gain in _LEARNED_QUERIES_GAINS:
            if pattern.search(name):
                return gain
    return _BOX_GAIN if _moves(name, layer) else 1.0


def _moves(name: str, layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether a layer is the last of a box head, or tells where features are read."""
    is_last = "bbox" in name and layer.weight.shape[0] % 4 == 0 and name.endswith("layers.2")
    return is_last or name.endswith("sampling_offsets")


def _is_class_head(model: Any, layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) and layer.out_features == model.config.num_labels


@contextmanager
def _adapting_norms(model: nn.Module) -> Iterator[None]:
    """While a batch passes, adapt batch norms and a projection without one to what they get."""
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if "BatchNorm2d" in type(module).__name__:
                hooks.callback(module.register_forward_pre_hook(_adapt).remove)
            elif name.endswith(_UNNORMED):
                hooks.callback(module.register_forward_hook(_spread_output).remove)
        yield


def _adapt(norm: Any, inputs: tuple[Tensor]) -> None:
    (x,) = inputs
    norm.running_mean.copy_(x.mean(dim=(0, 2, 3)))
    norm.running_var.copy_(x.var(dim=(0, 2, 3)))
    norm.weight.fill_(1)
    norm.bias.fill_(_NORM_BIAS)


def _spread_output(projection: Any, inputs: tuple[Tensor], outputs: Tensor) -> Tensor:
    """Have a projection give each channel no mean and a spread of 1."""
    mean, std = outputs.mean(dim=(0, 2, 3)), outputs.std(dim=(0, 2, 3))
    projection.weight.div_(std[:, None, None, None])
    projection.bias.sub_(mean).div_(std)
    return (outputs - mean[:, None, None]) / std[:, None, None]
