"""DETR's transformer: post-norm, positional encodings added to queries and keys in every layer.

Source: DETR paper, appendix A.3 and figure 10; `models/transformer.py` of the official code. Unlike
there, sequences are batch first ([N,L,d]); parameters are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MultiheadAttention(nn.Module):
    """Attention under the parameter names of `nn.MultiheadAttention`, batch first.

    Written out because `scaled_dot_product_attention` has no ONNX form at opset 13, the newest
    that TensorRT 8.2 reads.
    """

    def __init__(self, embed_dim: int, heads: int, dropout: float) -> None:
        """Build and initialise; `embed_dim` is a multiple of `heads`."""
        super().__init__()
        self.heads = heads
        self.embed_dim = embed_dim
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            query: [N,Lq,embed_dim].
            key: [N,Lk,embed_dim].
            value: [N,Lk,embed_dim].
            mask: added to the scores, broadcast to [N,heads,Lq,Lk]; large negative where a
                query must not see a key.

        Returns:
            [N,Lq,embed_dim].
        """
        d = self.embed_dim
        q = self._project(query, 0, d) * (d // self.heads) ** -0.5
        k = self._project(key, d, 2 * d)
        v = self._project(value, 2 * d, 3 * d)
        scores = q @ k.transpose(2, 3)
        if mask is not None:
            scores = scores + mask
        attended = self.dropout(scores.softmax(dim=3)) @ v
        return self.out_proj(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _project(self, x: Tensor, first_row: int, end_row: int) -> Tensor:
        """[N,L,embed_dim] to [N,heads,L,embed_dim/heads] by these rows of `in_proj`."""
        weight = self.in_proj_weight[first_row:end_row]
        bias = self.in_proj_bias[first_row:end_row]
        projected = functional.linear(x, weight, bias)
        return projected.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


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
