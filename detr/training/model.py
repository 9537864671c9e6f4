"""DETR with the parts that only training needs; the plain model inside is what ships.

These are further groups of queries, a head on the encoder's output, and starting values that let a
small DETR learn from scratch within an hour.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from detr.model import DETR, DetrOutput
from detr.model.backbone import PositionEmbeddingSine
from detr.model.detr import MLP
from detr.model.resnet import BasicBlock, Bottleneck
from detr.model.transformer import TransformerDecoderLayer
from detr.training.batches import Batch
from detr.training.losses import LossParts, generalized_iou, to_corners
from detr.training.processes import mean_over_processes

NO_OBJECT_WEIGHT = 0.2
"""Of the 'no object' class; larger than the decoder's, since most tokens near one see it."""

INNER_SHARE = 0.6
"""A token stands for an object when it lies in this middle part of its box."""


class DenseHead(nn.Module):
    """Class and box of every token."""

    def __init__(self, hidden_dim: int, classes: int) -> None:
        """Build for tokens of `hidden_dim` channels; 'no object' is added to `classes`."""
        super().__init__()
        self.class_embed = nn.Linear(hidden_dim, classes + 1)
        self.bbox_embed = MLP(hidden_dim, hidden_dim, 4, layers=3)

    def forward(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Memory [N,d,h,w] to logits [N,h,w,K+1] and boxes [N,h,w,4] in 0..1."""
        tokens = memory.permute(0, 2, 3, 1)
        return self.class_embed(tokens), self.bbox_embed(tokens).sigmoid()


def dense_loss(
    logits: Tensor, boxes: Tensor, padding: Tensor, batch: Batch, stride: float
) -> LossParts:
    """Compare every token with the smallest object whose middle it lies in.

    Args:
        logits: [N,h,w,K+1].
        boxes: [N,h,w,4].
        padding: [N,h,w] bool; padded tokens are left out.
        batch: the objects.
        stride: input pixels a token.
    """
    target, positive = assign_tokens(batch, logits.shape[1], logits.shape[2], stride)
    positive &= ~padding
    no_object = logits.shape[3] - 1
    image = torch.arange(len(batch.counts), device=logits.device)[:, None, None]
    wanted = torch.where(positive, batch.classes[image, target], no_object)
    class_weights = torch.ones(no_object + 1, device=logits.device)
    class_weights[-1] = NO_OBJECT_WEIGHT
    losses = functional.cross_entropy(
        logits.float().flatten(0, 2), wanted.flatten(), class_weights, reduction="none"
    )
    valid = ~padding.flatten()
    predicted = boxes.float()[positive]
    actual = batch.boxes[image, target][positive]
    l1 = (predicted - actual).abs().sum()
    giou = (1 - generalized_iou(to_corners(predicted), to_corners(actual))).sum()
    weight_sum = class_weights[wanted.flatten()][valid].sum()
    normalisers = mean_over_processes(torch.stack([weight_sum, positive.sum().float()]))
    positives = normalisers[1].clamp(min=1)
    return LossParts(losses[valid].sum() / normalisers[0], l1 / positives, giou / positives)


def assign_tokens(batch: Batch, height: int, width: int, stride: float) -> tuple[Tensor, Tensor]:
    """Return for each token [N,height,width] which object it stands for, and whether for any."""
    device = batch.boxes.device
    rows = (torch.arange(height, device=device) + 0.5) * stride
    columns = (torch.arange(width, device=device) + 0.5) * stride
    # [N,1,...] in 0..1 of the valid part, as boxes are.
    y = rows[None] / batch.valid_sizes[:, :1]
    x = columns[None] / batch.valid_sizes[:, 1:]
    centre, size = batch.boxes[..., :2], batch.boxes[..., 2:]
    inside_x = (x[:, None] - centre[..., :1]).abs() < INNER_SHARE / 2 * size[..., :1]
    inside_y = (y[:, None] - centre[..., 1:]).abs() < INNER_SHARE / 2 * size[..., 1:]
    inside = inside_y[..., :, None] & inside_x[..., None, :]  # [N,T,h,w]
    area = size.prod(dim=2)[..., None, None].expand(inside.shape)
    smallest, target = torch.where(inside, area, torch.inf).min(dim=1)
    return target, smallest.isfinite()


GROUP_SEPARATION = -1e4
"""Added to the attention scores between queries of different groups."""


@dataclass(frozen=True)
class TrainingOutput:
    """What the decoder says for all groups, and what the dense head says.

    Attributes:
        detr: the model's output; its queries are those of the groups, one after the other.
        dense_logits: [N,h,w,K+1], or None without a dense head.
        dense_boxes: [N,h,w,4], or None.
    """

    detr: DetrOutput
    dense_logits: Tensor | None
    dense_boxes: Tensor | None


class TrainingModel(nn.Module):
    """A DETR, further groups of queries (Group DETR, arXiv 2207.13085) and a dense head."""

    query_mask: Tensor

    def __init__(self, detr: DETR, groups: int, dense_head: bool) -> None:
        """Wrap `detr`; the first of the `groups` is the model's own queries."""
        super().__init__()
        self.detr = detr
        queries, hidden_dim = detr.query_embed.weight.shape
        self.groups = groups
        self.extra_queries = nn.Parameter(torch.randn((groups - 1) * queries, hidden_dim))
        self.dense_head = (
            DenseHead(hidden_dim, detr.class_embed.out_features - 1) if dense_head else None
        )
        same_group = torch.kron(torch.eye(groups), torch.ones(queries, queries))
        self.register_buffer("query_mask", (1 - same_group) * GROUP_SEPARATION, persistent=False)

    def forward(self, images: Tensor, padding: Tensor) -> TrainingOutput:
        """Detect in images [N,3,H,W] with padding [N,H,W] (true on padding)."""
        features, padding, pos = self.detr.backbone(images, padding)
        return self.interpret(self.detr.input_proj(features), padding, pos)

    def interpret(self, projected: Tensor, padding: Tensor, pos: Tensor) -> TrainingOutput:
        """Detect in projected features by all groups of queries; see `DETR.interpret`."""
        output = self.detr.interpret(
            projected,
            padding,
            pos,
            query_embed=torch.cat([self.detr.query_embed.weight, self.extra_queries]),
            query_mask=self.query_mask if self.groups > 1 else None,
        )
        if self.dense_head is None:
            return TrainingOutput(output, None, None)
        return TrainingOutput(output, *self.dense_head(output.memory))


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
    """Let every block start as its shortcut (Goyal et al., 2017, arXiv 1706.02677, section 5.1)."""
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
