"""What discrete sampling reads: the cells of a graph's samples, and a model that is given them.

A sample is read from the cell that it is nearest to. Of tens of thousands, some are about half way
between two cells, where rounding decides. As with proposals, whoever compares engines has to see
the choice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detr.errors import ExportError

Cells = tuple[NDArray[np.int64], ...]
"""x and y of samples, before they are held inside: [N*heads,Q,points,2] by layer and level."""
Shapes = Sequence[tuple[int, int]]
"""Height and width of each level, in cells."""
# RT-DETRv2 finds the sampling in its module, D-FINE in each layer.
_FUNCTION, _ATTRIBUTE = "multi_scale_deformable_attention_v2", "ms_deformable_attn_core"


def outputs_of_cells(graph: onnx.GraphProto) -> list[str]:
    """Names of the values that are cells, in the order in which they are computed."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def is_held_inside(name: str) -> bool:
        axes = readers.get(name, [])
        held = [reader.op_type for axis in axes for reader in readers.get(axis.output[0], [])]
        return [axis.op_type for axis in axes] == ["Gather"] * 2 and held == ["Clip"] * 2

    return [
        node.output[0]
        for node in graph.node
        if node.op_type == "Cast" and is_held_inside(node.output[0])
    ]


class GivenCells:
    """Moves samples to given cells.

    Attributes:
        gap: how far a sample was from the cell that it was moved to, the largest, as a part of the
            level's side.
    """

    def __init__(self, cells: Cells) -> None:
        """Take the cells of all layers and levels."""
        self.gap = 0.0
        self.left = [torch.from_numpy(each) for each in cells]

    def sample(
        self, original: Callable[..., Tensor], value: Tensor, shapes: Shapes, *further: Any
    ) -> Tensor:
        """Stand in for transformers' sampling; `locations` are [N,Q,heads,points,2], in 0..1."""
        locations, weights, points, *rest = further
        by_head = locations.permute(0, 2, 1, 3, 4)
        levels = torch.split(by_head.flatten(0, 1), points, dim=-2)
        moved = [self._moved(level, *shape) for level, shape in zip(levels, shapes, strict=True)]
        given = torch.cat(moved, dim=-2).reshape(by_head.shape).permute(0, 2, 1, 3, 4)
        return original(value, shapes, given, weights, points, *rest)

    def _moved(self, locations: Tensor, height: int, width: int) -> Tensor:
        if not self.left:
            raise ExportError("the model samples more often than its exported half")
        sides = torch.tensor([width, height])
        zero = torch.zeros_like(sides)
        at = locations * sides + 0.5
        own, cell = (
            cells.clamp(zero, sides - 1) for cells in (at.to(torch.int64), self.left.pop(0))
        )
        beyond = torch.maximum(cell - at, at - (cell + 1)) / sides
        differing = own != cell
        if differing.any():
            self.gap = max(self.gap, float(beyond[differing].max()))
        return cell / sides


@contextmanager
def reading(whole: nn.Module, cells: Cells) -> Iterator[GivenCells]:
    """While this lasts, have a model read these cells; with none, leave it as it is.

    Raises:
        ExportError: the model samples more or less often than cells were given for.
    """
    given = GivenCells(cells)
    with ExitStack() as stack:
        for holder, name in _samplers(whole) if cells else ():
            sample = partial(given.sample, getattr(holder, name))
            stack.enter_context(mock.patch.object(holder, name, sample))
        yield given
    if given.left:
        raise ExportError("the model samples less often than its exported half")


def _samplers(whole: nn.Module) -> Iterator[tuple[Any, str]]:
    for module in whole.modules():
        if hasattr(module, _ATTRIBUTE):
            yield module, _ATTRIBUTE
    for name in sorted({type(module).__module__ for module in whole.modules()}):
        if hasattr(sys.modules[name], _FUNCTION):
            yield sys.modules[name], _FUNCTION
