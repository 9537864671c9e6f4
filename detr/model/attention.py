"""Multi-head attention as two matrix products and a softmax (Vaswani et al., 2017, section 3.2)."""

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
