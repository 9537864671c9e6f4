"""Whole models of transformers, as the halves are compared with them."""

from __future__ import annotations

from torch import Tensor, nn


class Whole(nn.Module):
    """A whole model whose input has no padding."""

    def __init__(self, model: nn.Module) -> None:
        """Take the model itself."""
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N,Q,K] and boxes [N,Q,4] of pixels [N,3,H,W]."""
        outputs = self.model(pixels)
        return outputs.logits, outputs.pred_boxes
