"""The two halves of a DETR in the form that is exported.

The numbers are the model's; the form is chosen for the graph: BatchNorm is folded into the
convolutions (in fp32, since its epsilon is subnormal in fp16), every weight is a direct operand of
a Conv or MatMul without a Slice or Transpose before it, and reshapes need no shape arithmetic.
The torch engine rebuilds the same modules, so the names of their parameters are the names of the
graph's initializers.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from detr.model import DETR, FrozenBatchNorm2d
from detr.model.resnet import ResNet
from detr.model.transformer import MultiheadAttention

Split = Literal["projected", "c5"]


class BackboneHalf(nn.Module):
    """Image to the features that cross the cut."""

    def __init__(self, model: DETR, split: Split) -> None:
        """Take over the modules of `model`, which must not be used afterwards."""
        super().__init__()
        self.backbone = model.backbone
        self.input_proj = model.input_proj if split == "projected" else nn.Identity()
        fold_batch_norms(model.backbone.body)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features [N,C,h,w] of pixels [N,3,H,W]."""
        return self.input_proj(self.backbone[0](pixels))  # type: ignore[no-any-return]


class TransformerHalf(nn.Module):
    """Features to the raw outputs of the last decoder layer."""

    def __init__(self, model: DETR, split: Split) -> None:
        """Take over the modules of `model`, which must not be used afterwards."""
        super().__init__()
        self.input_proj = model.input_proj if split == "c5" else nn.Identity()
        self.transformer = model.transformer
        self.query_embed = model.query_embed
        self.class_embed = model.class_embed
        self.bbox_embed = model.bbox_embed
        _unpack(self)

    def forward(self, features: Tensor, pos: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Detect.

        Args:
            features: [N,C,h,w].
            pos: [N or 1,d,h,w].
            mask: [N,h,w], added to attention scores: 0, or -1e4 on padding.

        Returns:
            logits [N,Q,K+1] and boxes [N,Q,4].
        """
        # flatten NxCxHxW to NxHWxC
        src = _reshape(self.input_proj(features), (0, 0, -1)).transpose(1, 2)
        pos = _reshape(pos, (0, 0, -1)).transpose(1, 2)
        mask = _reshape(mask, (0, 1, 1, -1))
        for layer in self.transformer.encoder.layers:
            src = layer(src, pos, mask)
        query_pos = self.query_embed.weight
        # A batch of one until the first look at the memory: what the queries say to each other
        # before is the same for every frame, and runtimes compute it once, when they load.
        tgt = torch.zeros_like(query_pos)[None]
        memory_key = src + pos
        for layer in self.transformer.decoder.layers:
            tgt = layer(tgt, src, memory_key, query_pos, memory_mask=mask, query_mask=None)
        hidden = self.transformer.decoder.norm(tgt)
        return self.class_embed(hidden), self.bbox_embed(hidden).sigmoid()


def fold_batch_norms(resnet: ResNet) -> None:
    """Move every FrozenBatchNorm2d into the convolution before it, in place."""
    modules = dict(resnet.named_modules())
    for name, module in modules.items():
        if isinstance(module, FrozenBatchNorm2d):
            conv_name = _convolution_before(name)
            _fold(modules[conv_name], module)
            parent, _, attribute = name.rpartition(".")
            setattr(modules[parent], attribute, nn.Identity())


def _convolution_before(norm: str) -> str:
    """`layer1.0.bn2` to `layer1.0.conv2`; `layer1.0.downsample.1` to `layer1.0.downsample.0`."""
    parent, _, attribute = norm.rpartition(".")
    before = "0" if attribute == "1" else attribute.replace("bn", "conv")
    return f"{parent}.{before}" if parent else before


def _fold(conv: nn.Module, norm: FrozenBatchNorm2d) -> None:
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"a norm follows a {type(conv).__name__}, not a convolution")
    scale, shift = norm.scale_and_shift()
    conv.weight = nn.Parameter(conv.weight.detach() * scale[:, None, None, None])
    conv.bias = nn.Parameter(shift)


class _Projection(nn.Module):
    """`nn.Linear` with its weight stored as [in,out], as MatMul takes it."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Copy the weight [out,in] and bias [out] of a linear layer."""
        super().__init__()
        self.weight = nn.Parameter(weight.detach().t().contiguous())
        self.bias = nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """[...,in] to [...,out]."""
        return x @ self.weight + self.bias


class _UnpackedAttention(nn.Module):
    """`MultiheadAttention` with one projection each for query, key and value."""

    def __init__(self, attention: MultiheadAttention) -> None:
        """Copy the weights; the scale of the scores goes into the query's projection."""
        super().__init__()
        self.heads = attention.heads
        scale = (attention.embed_dim // attention.heads) ** -0.5
        q_weight, k_weight, v_weight = attention.in_proj_weight.chunk(3)
        q_bias, k_bias, v_bias = attention.in_proj_bias.chunk(3)
        self.q_proj = _Projection(q_weight * scale, q_bias * scale)
        self.k_proj = _Projection(k_weight, k_bias)
        self.v_proj = _Projection(v_weight, v_bias)
        self.out_proj = _Projection(attention.out_proj.weight, attention.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """See `MultiheadAttention.forward`."""
        q = self._heads(self.q_proj(query)).transpose(1, 2)
        k = self._heads(self.k_proj(key)).permute(0, 2, 3, 1)
        v = self._heads(self.v_proj(value)).transpose(1, 2)
        scores = q @ k
        if mask is not None:
            scores = scores + mask
        attended = (scores.softmax(dim=3) @ v).transpose(1, 2)
        return self.out_proj(_reshape(attended, (0, 0, -1)))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        """[N,L,d] to [N,L,heads,d/heads]."""
        return _reshape(x, (0, 0, self.heads, -1))


def _unpack(module: nn.Module) -> None:
    """Replace every attention and linear layer below `module`, in place."""
    for name, child in module.named_children():
        if isinstance(child, MultiheadAttention):
            setattr(module, name, _UnpackedAttention(child))
        elif isinstance(child, nn.Linear):
            setattr(module, name, _Projection(child.weight, child.bias))
        else:
            _unpack(child)


class _Reshape(torch.autograd.Function):
    """Reshape to a constant shape in which 0 keeps an axis, as ONNX has it and torch has not.

    Exported as it is, `view` would become a chain of Shape, Gather, Unsqueeze and Concat for each
    of its dynamic axes: a third of the graph's nodes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Reshape in torch."""
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
        return x.reshape(sizes)

    @staticmethod
    def symbolic(graph: Any, x: Any, shape: tuple[int, ...]) -> Any:
        """Reshape in ONNX."""
        constant = graph.op("Constant", value_t=torch.tensor(shape, dtype=torch.int64))
        return graph.op("Reshape", x, constant)


def _reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return _Reshape.apply(x, shape)  # type: ignore[no-any-return, no-untyped-call]
