"""What a DETR is made of."""

from __future__ import annotations

from pydantic import Field, model_validator
from typing_extensions import Literal, Self

from common.bundle.frozen import Frozen, inconsistent


class Architecture(Frozen):
    """What the DETR is made of (DETR paper, section 3.2 and appendix A.4)."""

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"]
    base_width: int = Field(
        default=64, gt=0, le=1024, description="channels of the ResNet's first stage"
    )
    dilation: bool = Field(
        default=False, description="dilated last stage: the DC5 models, stride 16"
    )
    encoder_layers: int = Field(default=6, ge=0, le=64)
    decoder_layers: int = Field(default=6, ge=1, le=64)
    hidden_dim: int = Field(default=256, gt=0, le=8192, description="width of the transformer")
    heads: int = Field(default=8, gt=0, le=256)
    feedforward_dim: int = Field(default=2048, gt=0, le=1 << 16)
    queries: int = Field(default=100, gt=0, le=10_000)
    classes: int = Field(
        default=91, gt=0, le=100_000, description="rows of the class head less the 'no object' one"
    )

    @model_validator(mode="after")
    def _check_hidden_dim(self) -> Self:
        if self.hidden_dim % self.heads:
            raise inconsistent(f"hidden_dim {self.hidden_dim} is no multiple of {self.heads} heads")
        # Sine and cosine, for row and column.
        if self.hidden_dim % 4:
            raise inconsistent(f"hidden_dim {self.hidden_dim} is no multiple of 4")
        return self

    @property
    def backbone_channels(self) -> int:
        """Channels of the backbone's last stage (C5)."""
        expansion = 1 if self.backbone in ("resnet18", "resnet34") else 4
        return self.base_width * 8 * expansion

    @property
    def stride(self) -> int:
        """Input pixels a feature cell, in each direction."""
        return 16 if self.dilation else 32
