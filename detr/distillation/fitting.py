"""A student's first weights, solved for block by block from the teacher's activations.

A basic block has two 3x3 convolutions where a bottleneck has 1x1, 3x3, 1x1, and both are equally
wide inside. So the first convolution is fitted to the bottleneck's 3x3 output, and the second to
its sum with the shortcut, in as many of its channels as the student has: two least-squares
problems a block, each on what the student's blocks before it really compute. No gradient descent
is needed, only some hundred pictures; training then starts from a rough copy of the teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.domain.errors import ConfigurationError
from detr.distillation.student import Student, kept_layers
from detr.distillation.teacher import Teacher
from detr.model.resnet import EPSILON, BasicBlock, Bottleneck, ResNet
from detr.training.batches import Batch
from detr.training.processes import mean_over_processes

RIDGE = 3e-3
"""Added to the diagonal of the inputs' covariance, as a share of its mean."""

CLAMP = -0.5
"""Targets below this many deviations are raised to it: past the ReLU they are all the same."""


@dataclass(frozen=True)
class Fit:
    """A least-squares solution, and the mean and covariance of its inputs.

    Attributes:
        weight: [O,F].
        bias: [O].
        input_mean: [F].
        input_covariance: [F,F].
    """

    weight: Tensor
    bias: Tensor
    input_mean: Tensor
    input_covariance: Tensor


@torch.no_grad()
def fit_backbone(student: Student, teacher: Teacher, batches: Iterable[Batch]) -> None:
    """Set the student's backbone and `input_proj`, over all processes' batches.

    Raises:
        ConfigurationError: the student is not of basic blocks, or the teacher not of bottlenecks.
    """
    ours, theirs = student.detr.backbone.body, teacher.model.detr.backbone.body
    if not isinstance(ours.layer1[0], BasicBlock) or not isinstance(theirs.layer1[0], Bottleneck):
        raise ConfigurationError("only a ResNet-18 or 34 can be fitted, and only to a 50 or 101.")
    student.eval()
    stems = [_stem(theirs, batch.images) for batch in batches]
    own, taught = stems, list(stems)
    projection = teacher.model.detr.input_proj
    for name in ("layer1", "layer2", "layer3", "layer4"):
        blocks: nn.Sequential = getattr(ours, name)
        wanted: nn.Sequential = getattr(theirs, name)
        readout = projection.weight.flatten(1) if name == "layer4" else None
        width = cast(BasicBlock, blocks[0]).conv2.out_channels
        kept = _kept_channels([wanted(x) for x in taught], width, readout)
        ends = kept_layers(len(wanted), len(blocks))
        for index, block in enumerate(blocks):
            before = [
                wanted[(ends[index - 1] + 1 if index else 0) : ends[index]](x) for x in taught
            ]
            bottleneck = wanted[ends[index]]
            _fit_block(cast(BasicBlock, block), cast(Bottleneck, bottleneck), own, before, kept)
            own = [block(x) for x in own]
            taught = [bottleneck(x) for x in before]
    _fit_projection(student.detr.input_proj, own, [projection(x) for x in taught])


def _fit_block(
    block: BasicBlock,
    bottleneck: Bottleneck,
    own: Sequence[Tensor],
    taught: Sequence[Tensor],
    kept: Tensor,
) -> None:
    """Fit both convolutions (and the shortcut's) in place, given the inputs of both blocks."""
    inner = solve(
        (_patches(x, block.conv1), _clamped(_rows(_inner(bottleneck, t))))
        for x, t in zip(own, taught, strict=True)
    )
    _set(block.conv1, block.bn1, inner, inner.weight, inner.bias)

    def problem(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        hidden = functional.relu(block.bn1(block.conv1(x)))
        target = _clamped(_rows(_sum(bottleneck, t)[:, kept]))
        patches = _patches(hidden, block.conv2)
        if block.downsample is None:
            return patches, target - _rows(x)
        return torch.cat(
            [patches, _patches(x, cast(nn.Conv2d, block.downsample[0]))], dim=1
        ), target

    outer = solve(problem(x, t) for x, t in zip(own, taught, strict=True))
    inputs = block.conv2.weight[0].numel()
    _set(block.conv2, block.bn2, outer, outer.weight[:, :inputs], outer.bias)
    if block.downsample is not None:
        shortcut = outer.weight[:, inputs:]
        conv, norm = cast(nn.Conv2d, block.downsample[0]), block.downsample[1]
        _set(conv, norm, outer, shortcut, None, offset=inputs)


def _fit_projection(own: nn.Conv2d, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    fit = solve((_rows(x), _rows(y)) for x, y in zip(inputs, targets, strict=True))
    own.weight.copy_(fit.weight[..., None, None])
    cast(Tensor, own.bias).copy_(fit.bias)


def solve(problems: Iterable[tuple[Tensor, Tensor]]) -> Fit:
    """Return the ridge regression of targets on inputs, over all processes.

    Args:
        problems: inputs [R,F] and targets [R,O], in parts.
    """
    total: Tensor | None = None
    features = 0
    for inputs, targets in problems:
        features = inputs.shape[1]
        columns = torch.cat([inputs, inputs.new_ones(len(inputs), 1), targets], dim=1)
        # Rows of the product that only targets have are never read.
        part = (columns[:, : features + 1].T @ columns).double()
        total = part if total is None else total + part
    if total is None:
        raise ConfigurationError("there are no batches to fit the student on.")
    total = mean_over_processes(total)
    total = total / total[features, features]
    mean, target_mean = total[features, :features], total[features, features + 1 :]
    covariance = total[:features, :features] - mean[:, None] * mean
    cross = total[:features, features + 1 :] - mean[:, None] * target_mean
    ridge = (
        RIDGE
        * covariance.diagonal().mean()
        * torch.eye(features, dtype=torch.float64, device=total.device)
    )
    weight = torch.linalg.solve(covariance + ridge, cross).T
    return Fit(weight, target_mean - weight @ mean, mean, covariance)


def select_channels(covariance: Tensor, count: int, readout: Tensor | None = None) -> Tensor:
    """Choose channels one by one, each time the one that best explains all channels linearly.

    Args:
        covariance: [C,C].
        count: how many to choose.
        readout: [D,C], the linear function that is wanted instead of the channels themselves.

    Returns:
        [count] int64, ascending.
    """
    residual = covariance.double().clone()
    chosen: list[int] = []
    for _ in range(count):
        variance = residual.diagonal().clone()
        explained = residual if readout is None else readout.double() @ residual
        score = explained.square().sum(dim=0) / variance.clamp(min=1e-12)
        score[variance < 1e-9] = -1  # explained already, or constant
        score[chosen] = -torch.inf
        best = int(score.argmax())
        chosen.append(best)
        if variance[best] > 1e-9:
            column = residual[:, best].clone()
            residual -= column[:, None] * column / variance[best]
    return torch.tensor(sorted(chosen))


def _kept_channels(outputs: Sequence[Tensor], count: int, readout: Tensor | None) -> Tensor:
    covariance = solve((_rows(x), _rows(x)[:, :1]) for x in outputs).input_covariance
    return select_channels(covariance, count, readout)


def _set(
    conv: nn.Conv2d,
    norm: nn.Module,
    fit: Fit,
    weight: Tensor,
    bias: Tensor | None,
    *,
    offset: int = 0,
) -> None:
    """Set a convolution and the norm behind it, whose statistics are those of its inputs.

    So the norm does the same in training mode as in evaluation mode, on such inputs.
    """
    end = offset + weight.shape[1]
    mean = weight @ fit.input_mean[offset:end]
    variance = ((weight @ fit.input_covariance[offset:end, offset:end]) * weight).sum(dim=1)
    variance = variance.clamp(min=0)
    conv.weight.copy_(weight.view(conv.weight.shape))
    values = {
        "running_mean": mean,
        "running_var": variance,
        "weight": (variance + EPSILON).sqrt(),
        "bias": mean if bias is None else mean + bias,
    }
    for name, value in values.items():
        getattr(norm, name).copy_(value)


def _stem(body: ResNet, images: Tensor) -> Tensor:
    x = functional.relu(body.bn1(body.conv1(images)))
    return functional.max_pool2d(x, 3, stride=2, padding=1)


def _inner(block: Bottleneck, x: Tensor) -> Tensor:
    """Return what the 3x3 convolution gives, before its ReLU."""
    return block.bn2(block.conv2(functional.relu(block.bn1(block.conv1(x)))))  # type: ignore[no-any-return]


def _sum(block: Bottleneck, x: Tensor) -> Tensor:
    """Return the block's output before its last ReLU."""
    shortcut = x if block.downsample is None else block.downsample(x)
    hidden = functional.relu(_inner(block, x))
    return block.bn3(block.conv3(hidden)) + shortcut  # type: ignore[no-any-return]


def _rows(x: Tensor) -> Tensor:
    """[N,C,h,w] to [N*h*w,C]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _patches(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """What each output of a convolution sees: [N,C,h,w] to [N*h'*w',C*k*k]."""
    kernel, stride = cast(tuple[int, int], conv.kernel_size), cast(tuple[int, int], conv.stride)
    padding, dilation = cast(tuple[int, int], conv.padding), cast(tuple[int, int], conv.dilation)
    columns = functional.unfold(x, kernel, dilation, padding, stride)
    return columns.transpose(1, 2).flatten(0, 1)


def _clamped(targets: Tensor) -> Tensor:
    return torch.maximum(targets, CLAMP * targets.std(dim=0))
