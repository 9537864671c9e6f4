"""DETR with the parts that only training needs; the plain model inside is what ships."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detr.model import DETR, DetrOutput
from detr.training.dense_head import DenseHead

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
