"""DETR: set prediction by a transformer on top of a ResNet (DETR paper, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.bundle import Architecture
from detr.model.backbone import Backbone, Joiner, PositionEmbeddingSine
from detr.model.resnet import FrozenBatchNorm2d, NormLayer
from detr.model.transformer import Transformer

PADDING_SCORE = -1e4
"""Added to the attention scores of padded cells; finite, for runtimes that dislike infinity."""


@dataclass(frozen=True)
class DetrOutput:
    """What DETR says about a batch; L decoder layers, Q queries, K classes.

    Attributes:
        layer_logits: [L,N,Q,K+1]; the last class is 'no object'.
        layer_boxes: [L,N,Q,4]; centre x, centre y, width, height, in 0..1 of the image without
            its padding.
        memory: [N,d,h,w], the encoder's output.
        padding: [N,h,w] bool, the memory's padded cells.
        pos: [N,d,h,w], the memory's positional encoding.
    """

    layer_logits: Tensor
    layer_boxes: Tensor
    memory: Tensor
    padding: Tensor
    pos: Tensor

    @property
    def logits(self) -> Tensor:
        """[N,Q,K+1] of the last decoder layer."""
        return self.layer_logits[-1]

    @property
    def boxes(self) -> Tensor:
        """[N,Q,4] of the last decoder layer."""
        return self.layer_boxes[-1]


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, layers: int) -> None:
        """Build `layers` linear layers, all but the last `hidden_dim` wide."""
        super().__init__()
        widths = [input_dim] + [hidden_dim] * (layers - 1) + [output_dim]
        self.layers = nn.ModuleList(
            nn.Linear(before, after) for before, after in zip(widths, widths[1:], strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[...,input_dim] to [...,output_dim]."""
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        return self.layers[-1](x)  # type: ignore[no-any-return]


class DETR(nn.Module):
    """The whole detector; the official checkpoint's keys and shapes are its own."""

    def __init__(
        self,
        architecture: Architecture,
        norm: NormLayer = FrozenBatchNorm2d,
        dropout: float = 0.1,
    ) -> None:
        """Build with random weights.

        Args:
            architecture: depths and widths.
            norm: makes the backbone's normalisation layers; `nn.BatchNorm2d` to train from
                scratch, the result of which loads into a model with the default.
            dropout: the transformer's dropout, which acts in training mode only.
        """
        super().__init__()
        self.architecture = a = architecture
        backbone = Backbone(a.backbone, a.base_width, a.dilation, norm)
        self.backbone = Joiner(backbone, PositionEmbeddingSine(a.hidden_dim))
        self.input_proj = nn.Conv2d(backbone.num_channels, a.hidden_dim, kernel_size=1)
        self.transformer = Transformer(
            a.hidden_dim,
            a.heads,
            encoder_layers=a.encoder_layers,
            decoder_layers=a.decoder_layers,
            feedforward_dim=a.feedforward_dim,
            dropout=dropout,
        )
        self.query_embed = nn.Embedding(a.queries, a.hidden_dim)
        self.class_embed = nn.Linear(a.hidden_dim, a.classes + 1)
        self.bbox_embed = MLP(a.hidden_dim, a.hidden_dim, 4, layers=3)

    def forward(
        self,
        images: Tensor,
        padding: Tensor,
        *,
        query_embed: Tensor | None = None,
        query_mask: Tensor | None = None,
    ) -> DetrOutput:
        """Detect.

        Args:
            images: [N,3,H,W], normalised; 0 on padding.
            padding: [N,H,W] bool, true on padding.
            query_embed: [Q,d], queries to use instead of the model's own.
            query_mask: [Q,Q], added to the self-attention scores among queries: large negative
                where one must not see another (as between groups of queries in training).
        """
        features, padding, pos = self.backbone(images, padding)
        return self.interpret(
            self.input_proj(features), padding, pos, query_embed=query_embed, query_mask=query_mask
        )

    def interpret(
        self,
        projected: Tensor,
        padding: Tensor,
        pos: Tensor,
        *,
        query_embed: Tensor | None = None,
        query_mask: Tensor | None = None,
    ) -> DetrOutput:
        """Detect in projected features: all that follows the backbone and `input_proj`.

        Args:
            projected: [N,d,h,w].
            padding: [N,h,w] bool, true on padding.
            pos: [N,d,h,w], positional encoding.
            query_embed: see `forward`.
            query_mask: see `forward`.
        """
        hidden, memory = self.transformer(
            projected,
            pos,
            padding.to(projected.dtype) * PADDING_SCORE,
            self.query_embed.weight if query_embed is None else query_embed,
            query_mask,
        )
        stacked = torch.stack(hidden)
        return DetrOutput(
            layer_logits=self.class_embed(stacked),
            layer_boxes=self.bbox_embed(stacked).sigmoid(),
            memory=memory.transpose(1, 2).unflatten(2, padding.shape[1:]),
            padding=padding,
            pos=pos,
        )
