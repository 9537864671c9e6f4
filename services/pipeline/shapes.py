"""Derives the shapes that an engine has to be ready for from a bundle's input policy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

from common.bundle import BottleneckPart, Graph, InputPolicy, Manifest, ShortestEdgeInput
from common.domain.placement import Stage
from common.engines.base import CompileOptions, Precision, ShapeRange

_Size = Tuple[int, int]


def typical_size(policy: InputPolicy) -> _Size:
    """The input's usual height and width, pixels."""
    if not isinstance(policy, ShortestEdgeInput):
        return policy.height, policy.width
    # COCO's usual aspect, 4:3, at the size that DETR's resize gives it.
    return policy.shortest_edge, min(policy.longest_edge, policy.shortest_edge * 4 // 3)


def input_shapes(manifest: Manifest, graph: Graph, max_batch: int = 1) -> Dict[str, ShapeRange]:
    """The shapes that each input of a graph may have, for every size that the policy allows.

    Args:
        manifest: of the bundle.
        graph: which half, or which part of the bottleneck.
        max_batch: how many frames may be executed together.

    With DETR's resize each side may be short or long. Its rounding makes the long side of a very
    narrow picture longer than the policy's limit by up to half of its aspect ratio in pixels; one
    cell more is allowed, which at stride 32 covers pictures up to 64 times as long as wide.
    """
    low, usual, high = _sizes(manifest)
    if graph is Stage.BACKBONE:
        return {"pixels": _range((3,), (low, usual, high), max_batch)}
    grids = [[tensor.grid(*size) for size in (low, usual, high)] for tensor in manifest.cut]
    if graph is BottleneckPart.DECODER:
        return {"latents": _range((latent_channels(manifest),), grids[0], max_batch)}
    shapes = {
        tensor.name: _range((tensor.channels,), grid, max_batch)
        for tensor, grid in zip(manifest.cut, grids)
    }
    if graph is Stage.TRANSFORMER and manifest.position_channels is not None:
        shapes["pos"] = _range((manifest.position_channels,), grids[0], max_batch)
        shapes["mask"] = _range((), grids[0], max_batch)
    return shapes


def latent_channels(manifest: Manifest) -> int:
    """The channels of the bottleneck's latents; 0 if there is no bottleneck."""
    return 0 if manifest.bottleneck is None else manifest.bottleneck.channels


def largest_input_bytes(manifest: Manifest, stage: Stage) -> int:
    """The memory that a half's inputs take for one frame of the policy's largest size, bytes."""
    height, width = _largest_size(manifest.input)
    if stage is Stage.BACKBONE:
        return 4 * 3 * height * width
    rows, columns = manifest.cut[0].grid(height, width)
    position_values = (manifest.position_channels or 0) * rows * columns
    return 4 * (largest_feature_count(manifest) + position_values)


def largest_feature_count(manifest: Manifest) -> int:
    """How many features a frame of the policy's largest size has, in all tensors of the cut."""
    height, width = _largest_size(manifest.input)
    return sum(tensor.values(height, width) for tensor in manifest.cut)


def largest_latent_count(manifest: Manifest) -> int:
    """How many latents a frame of the policy's largest size has; 0 without a bottleneck."""
    rows, columns = manifest.cut[0].grid(*_largest_size(manifest.input))
    return latent_channels(manifest) * rows * columns


def compile_options(
    manifest: Manifest,
    graph: Graph,
    precision: Precision,
    cache: Optional[Path],
    max_batch: int = 1,
) -> CompileOptions:
    """The options for an engine that compiles ahead; `cache` is the user's own if left out."""
    return CompileOptions(
        shapes=input_shapes(manifest, graph, max_batch),
        precision=precision,
        cache=cache if cache is not None else default_cache(),
    )


def default_cache() -> Path:
    """`tandem/engines` in the user's folder for caches."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "tandem" / "engines"


def _largest_size(policy: InputPolicy) -> _Size:
    """The largest height and width of an input, pixels; either may be the short side."""
    if not isinstance(policy, ShortestEdgeInput):
        return policy.height, policy.width
    return policy.shortest_edge, policy.longest_edge


def _sizes(manifest: Manifest) -> Tuple[_Size, _Size, _Size]:
    """The smallest, usual and largest height and width, pixels."""
    policy, usual = manifest.input, typical_size(manifest.input)
    if not isinstance(policy, ShortestEdgeInput):
        return usual, usual, usual
    stride = manifest.cut[-1].stride
    largest = (-(-policy.longest_edge // stride) + 1) * stride
    return (1, 1), usual, (largest, largest)


def _range(channels: Tuple[int, ...], sizes: Sequence[_Size], max_batch: int) -> ShapeRange:
    low, usual, high = sizes
    return ShapeRange((1, *channels, *low), (1, *channels, *usual), (max_batch, *channels, *high))
