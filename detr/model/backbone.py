"""The backbone: a ResNet, and what padding becomes at its resolution."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from detr.model.normalization import NormLayer
from detr.model.position import PositionEmbeddingSine
from detr.model.resnet import ResNet


class Backbone(nn.Module):
    """A ResNet under the name `body`."""

    def __init__(self, name: str, base_width: int, dilation: bool, norm: NormLayer) -> None:
        """Build; see `detr.model.resnet.ResNet`."""
        super().__init__()
        self.body = ResNet(name, base_width, dilation, norm)
        self.num_channels = self.body.num_channels

    def forward(self, images: Tensor) -> Tensor:
        """C5 features of images [N,3,H,W]: [N,num_channels,h,w]."""
        return self.body(images)  # type: ignore[no-any-return]


class Joiner(nn.Sequential):
    """Backbone and positional encoding side by side: `backbone.0` and `backbone.1`."""

    def __init__(self, backbone: Backbone, position_embedding: PositionEmbeddingSine) -> None:
        """Join."""
        super().__init__(backbone, position_embedding)

    @property
    def body(self) -> ResNet:
        """The ResNet, whose `stages` are there for losses on features."""
        return cast(Backbone, self[0]).body

    def forward(self, images: Tensor, padding: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Features, and padding and positional encoding at their resolution.

        Args:
            images: [N,3,H,W].
            padding: [N,H,W] bool, true on padding.

        Returns:
            features [N,C,h,w], padding [N,h,w] bool, encoding [N,d,h,w].
        """
        features: Tensor = self[0](images)
        padding = resize_padding(padding, features.shape[-2], features.shape[-1])
        return features, padding, self[1](padding)


def resize_padding(padding: Tensor, height: int, width: int) -> Tensor:
    """Padding [N,H,W] bool at another resolution, by nearest neighbour (official code)."""
    return functional.interpolate(padding[None].float(), size=(height, width)).bool()[0]
