"""DETR's transformer: post-norm, positional encodings added to queries and keys in every layer.

Source: DETR paper, appendix A.3 and figure 10; `models/transformer.py` of the official code. Unlike
there, sequences are batch first ([N,L,d]); parameters are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from detr.model.attention import MultiheadAttention


class TransformerEncoderLayer(nn.Module):
    """Self-attention over the cells, then a feed-forward network."""

    def __init__(self, d_model: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        """Build the layer."""
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, heads, dropout)
        self.linear1 = nn.Linear(d_model, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, src: Tensor, pos: Tensor, mask: Tensor) -> Tensor:
        """Encode src [N,L,d] with pos [N or 1,L,d] under an additive mask [N,1,1,L]."""
        q = k = src + pos
        src = self.norm1(src + self.dropout(self.self_attn(q, k, src, mask)))
        hidden = self.dropout(functional.relu(self.linear1(src)))
        return self.norm2(src + self.dropout(self.linear2(hidden)))  # type: ignore[no-any-return]


class TransformerDecoderLayer(nn.Module):
    """Self-attention over the queries, attention to the memory, a feed-forward network."""

    def __init__(self, d_model: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        """Build the layer."""
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, heads, dropout)
        self.multihead_attn = MultiheadAttention(d_model, heads, dropout)
        self.linear1 = nn.Linear(d_model, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.norm3 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        memory_key: Tensor,
        query_pos: Tensor,
        *,
        memory_mask: Tensor,
        query_mask: Tensor | None,
    ) -> Tensor:
        """Decode one step; shapes as in `TransformerDecoder.forward`.

        `memory_key` is memory + pos, which is the same for every layer.
        """
        q = k = tgt + query_pos
        tgt = self.norm1(tgt + self.dropout(self.self_attn(q, k, tgt, query_mask)))
        attended = self.multihead_attn(tgt + query_pos, memory_key, memory, memory_mask)
        tgt = self.norm2(tgt + self.dropout(attended))
        hidden = self.dropout(functional.relu(self.linear1(tgt)))
        return self.norm3(tgt + self.dropout(self.linear2(hidden)))  # type: ignore[no-any-return]


class TransformerEncoder(nn.Module):
    """A stack of encoder layers, possibly empty, without a final norm."""

    def __init__(
        self, layers: int, d_model: int, heads: int, feedforward_dim: int, dropout: float
    ) -> None:
        """Build the stack."""
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(d_model, heads, feedforward_dim, dropout) for _ in range(layers)
        )

    def forward(self, src: Tensor, pos: Tensor, mask: Tensor) -> Tensor:
        """Encode src [N,L,d] with pos [N or 1,L,d] under an additive mask [N,1,1,L]."""
        for layer in self.layers:
            src = layer(src, pos, mask)
        return src


class TransformerDecoder(nn.Module):
    """A stack of decoder layers; one norm, shared, is applied to the output of each."""

    def __init__(
        self, layers: int, d_model: int, heads: int, feedforward_dim: int, dropout: float
    ) -> None:
        """Build the stack."""
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerDecoderLayer(d_model, heads, feedforward_dim, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        memory: Tensor,
        pos: Tensor,
        query_pos: Tensor,
        memory_mask: Tensor,
        query_mask: Tensor | None = None,
    ) -> list[Tensor]:
        """Decode all queries at once, starting from zeros.

        Args:
            memory: [N,L,d], the encoder's output.
            pos: [N or 1,L,d], positional encoding of the memory.
            query_pos: [Q,d], the learned queries.
            memory_mask: [N,1,1,L], added to the scores over the memory.
            query_mask: [Q,Q], added to the scores among queries.

        Returns:
            [N,Q,d] for every layer, normalised.
        """
        memory_key = memory + pos
        tgt = torch.zeros_like(query_pos).expand(memory.shape[0], -1, -1)
        outputs = []
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                memory_key,
                query_pos,
                memory_mask=memory_mask,
                query_mask=query_mask,
            )
            outputs.append(self.norm(tgt))
        return outputs


class Transformer(nn.Module):
    """Encoder and decoder."""

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        encoder_layers: int,
        decoder_layers: int,
        feedforward_dim: int,
        dropout: float,
    ) -> None:
        """Build and initialise: every matrix Xavier uniform, as the official code does."""
        super().__init__()
        self.encoder = TransformerEncoder(encoder_layers, d_model, heads, feedforward_dim, dropout)
        self.decoder = TransformerDecoder(decoder_layers, d_model, heads, feedforward_dim, dropout)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        pos: Tensor,
        mask: Tensor,
        query_embed: Tensor,
        query_mask: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Run both.

        Args:
            src: [N,d,h,w], projected features.
            pos: [N or 1,d,h,w], positional encoding.
            mask: [N,h,w], added to the scores over cells: 0, or large negative on padding. (Finite,
                as TensorRT wants it; -1e4 leaves exactly 0 after softmax in fp32.)
            query_embed: [Q,d].
            query_mask: [Q,Q], added to the scores among queries.

        Returns:
            [N,Q,d] for every decoder layer, and the memory [N,h*w,d].
        """
        # flatten NxCxHxW to NxHWxC
        src = src.flatten(2).transpose(1, 2)
        pos = pos.flatten(2).transpose(1, 2)
        mask = mask.flatten(1)[:, None, None, :]
        memory = self.encoder(src, pos, mask)
        return self.decoder(memory, pos, query_embed, mask, query_mask), memory
