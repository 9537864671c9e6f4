"""ResNet (He et al., 2015, arXiv 1512.03385), without its classifier.

Names and initialisation are torchvision's, and so is the place of the stride (in the 3x3
convolution of a bottleneck). Own code because torchvision's basic block refuses dilation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

NormLayer = Callable[[int], nn.Module]
"""Makes a normalisation layer for a number of channels: `FrozenBatchNorm2d`, `nn.BatchNorm2d`."""

EPSILON = 1e-5
"""Added to the variance; the value of `nn.BatchNorm2d`, so that its weights mean the same here."""


class FrozenBatchNorm2d(nn.Module):
    """`weight * (x - running_mean) / sqrt(running_var + 1e-5) + bias`, all four as buffers.

    A state of `nn.BatchNorm2d` loads as it is: names and shapes agree, and its
    `num_batches_tracked`, which means nothing here, is passed over.

    Source: `models/backbone.py` of the official code.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        """Start as the identity (up to epsilon)."""
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The layer as `x * scale + shift`, both [C]."""
        scale = self.weight * (self.running_var + EPSILON).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N,C,H,W]."""
        scale, shift = self.scale_and_shift()
        return x * scale[:, None, None] + shift[:, None, None]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _conv3x3(in_channels: int, out_channels: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ResNet-18 and 34."""

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        norm: NormLayer,
        *,
        stride: int,
        entry_dilation: int,
        dilation: int,
    ) -> None:
        """Build the block.

        Args:
            in_channels: channels of the input.
            width: channels within the block; it puts out `width * expansion`.
            norm: makes the normalisation layers.
            stride: stride of the first 3x3 convolution and of the shortcut.
            entry_dilation: spacing of the grid that the block's input lies on, in cells.
            dilation: spacing of the grid once the stage's stride has been taken.
        """
        super().__init__()
        self.conv1 = _conv3x3(in_channels, width, stride, entry_dilation)
        self.bn1 = norm(width)
        self.conv2 = _conv3x3(width, width, 1, dilation)
        self.bn2 = norm(width)
        self.downsample = _shortcut(in_channels, width * self.expansion, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[N,in_channels,H,W] to [N,width,H/stride,W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return functional.relu(x + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut: ResNet-50 and 101."""

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        norm: NormLayer,
        *,
        stride: int,
        entry_dilation: int,
        dilation: int,
    ) -> None:
        """Build the block; see `BasicBlock`. Its only 3x3 is the one that takes the stride."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = _conv3x3(width, width, stride, entry_dilation)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = norm(width * self.expansion)
        self.downsample = _shortcut(in_channels, width * self.expansion, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[N,in_channels,H,W] to [N,4*width,H/stride,W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return functional.relu(x + shortcut)


def _shortcut(
    in_channels: int, out_channels: int, stride: int, norm: NormLayer
) -> nn.Sequential | None:
    """1x1 projection where a block's input and output differ in shape.

    A dilated stage always widens its input too, so its stride of 1 never hides the need for one.
    """
    if stride == 1 and in_channels == out_channels:
        return None
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(conv, norm(out_channels))


BLOCKS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}
"""The kind of block, and how many of them in each of the four stages."""


class ResNet(nn.Module):
    """The convolutional body: stem and four stages, `conv1` to `layer4`."""

    def __init__(self, name: str, base_width: int, dilation: bool, norm: NormLayer) -> None:
        """Build and initialise.

        Args:
            name: a key of `BLOCKS`.
            base_width: channels of the stem and width of the first stage; 64 in the paper.
            dilation: the last stage keeps its input's resolution and dilates instead (DC5).
            norm: makes the normalisation layers.
        """
        super().__init__()
        self._block, depths = BLOCKS[name]
        self._norm = norm
        self.conv1 = nn.Conv2d(3, base_width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(base_width)
        expansion = self._block.expansion
        w1, w2, w3, w4 = (base_width * 2**stage for stage in range(4))
        self.layer1 = self._stage(base_width, w1, depths[0], stride=1)
        self.layer2 = self._stage(w1 * expansion, w2, depths[1], stride=2)
        self.layer3 = self._stage(w2 * expansion, w3, depths[2], stride=2)
        last = {"stride": 1, "dilation": 2} if dilation else {"stride": 2}
        self.layer4 = self._stage(w3 * expansion, w4, depths[3], **last)
        self.num_channels = w4 * expansion
        self._initialise()

    def _stage(
        self, in_channels: int, width: int, depth: int, stride: int, dilation: int = 1
    ) -> nn.Sequential:
        # The first block's input lies on the undilated grid: only what follows the stride that
        # was taken out is dilated. So the dilated stage holds the values of the strided one at
        # every second row and column.
        first = self._block(
            in_channels, width, self._norm, stride=stride, entry_dilation=1, dilation=dilation
        )
        out_channels = width * self._block.expansion
        rest = [
            self._block(
                out_channels,
                width,
                self._norm,
                stride=1,
                entry_dilation=dilation,
                dilation=dilation,
            )
            for _ in range(depth - 1)
        ]
        return nn.Sequential(first, *rest)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, images: Tensor, count: int = 4) -> tuple[Tensor, ...]:
        """Outputs of the first `count` stages (C2 to C5) for images [N,3,H,W]."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        outputs = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4)[:count]:
            x = layer(x)
            outputs.append(x)
        return tuple(outputs)

    def forward(self, images: Tensor) -> Tensor:
        """C5 of images [N,3,H,W]: [N,num_channels,h,w] at stride 32, or 16 when dilated."""
        return self.stages(images)[-1]
