"""Starting values that let a small DETR learn from scratch within an hour."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detr.model import DETR
from detr.model.position import PositionEmbeddingSine
from detr.model.resnet import BasicBlock, Bottleneck
from detr.model.transformer import TransformerDecoderLayer
from detr.training.training_model import TrainingModel

KEY_SCALE = 2.0
QUERY_NOISE = 0.1
SMALL_BOX_BIAS = -1.0  # sigmoid(-1) = 0.27 of the image

_FINE_CELLS = 8  # places between which a group's grid may be shifted, per cell of the grid


def initialise_from_scratch(model: TrainingModel, grid: tuple[int, int]) -> None:
    """Set starting values in place; random ones come from torch's generator.

    Args:
        model: its queries must be as many as the grid has cells.
        grid: rows and columns of the places where queries start to look.
    """
    detr = model.detr
    with torch.no_grad():
        start_residuals_at_zero(detr)
        _look_where_the_query_says(detr)
        for head in [detr.bbox_embed, *([model.dense_head.bbox_embed] if model.dense_head else [])]:
            _start_with_small_boxes(head.layers[-1])
        groups = [_grid_queries(grid, detr.query_embed.embedding_dim) for _ in range(model.groups)]
        detr.query_embed.weight.copy_(groups[0])
        if len(groups) > 1:
            model.extra_queries.copy_(torch.cat(groups[1:]))


def start_residuals_at_zero(detr: DETR) -> None:
    """Every block starts as its shortcut (Goyal et al., 2017, arXiv 1706.02677, section 5.1)."""
    for module in detr.backbone.modules():
        last = None
        if isinstance(module, Bottleneck):
            last = module.bn3
        elif isinstance(module, BasicBlock):
            last = module.bn2
        if last is not None:
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]


def _look_where_the_query_says(detr: DETR) -> None:
    """Cross-attention keys start as multiples of the queries, so that like positions attend."""
    width = detr.query_embed.embedding_dim
    for layer in detr.transformer.decoder.layers:
        if isinstance(layer, TransformerDecoderLayer):
            weight = layer.multihead_attn.in_proj_weight
            weight[width : 2 * width] = KEY_SCALE * weight[:width]


def _start_with_small_boxes(last_layer: nn.Module) -> None:
    if isinstance(last_layer, nn.Linear):
        last_layer.weight.mul_(0.5)
        last_layer.bias.copy_(torch.tensor([0.0, 0.0, SMALL_BOX_BIAS, SMALL_BOX_BIAS]))


def _grid_queries(grid: tuple[int, int], hidden_dim: int) -> Tensor:
    """The sine code of a randomly shifted grid of places, with a little noise: [rows*columns,d]."""
    rows, columns = grid
    shape = (1, rows * _FINE_CELLS, columns * _FINE_CELLS)
    code: Tensor = PositionEmbeddingSine(hidden_dim)(torch.zeros(shape, dtype=torch.bool))[0]
    down, right = torch.randint(_FINE_CELLS // 4, 3 * _FINE_CELLS // 4, (2,)).tolist()
    places = code[:, down::_FINE_CELLS, right::_FINE_CELLS].flatten(1).T
    return places + QUERY_NOISE * torch.randn_like(places)
