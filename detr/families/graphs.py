"""The two halves of a model of any family as ONNX files, and their comparison with the model."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.jit._trace import TracerWarning

from common.domain.frames import FrameGeometry
from common.vision.position import transformer_inputs
from detr.errors import ExportError
from detr.export.cases import Case
from detr.export.graph import export_graph
from detr.families.base import SplitModel
from detr.families.norms import settle_norms
from detr.families.proposals import Halves, detect_with
from detr.families.sizes import is_dynamic, traced_size

Arrays = dict[str, NDArray[np.float32]]
TOLERANCE = 1e-4
"""Largest difference allowed on any logit and any box coordinate (0..1)."""


def write_halves(split: SplitModel, backbone: Path, transformer: Path) -> None:
    """Write both graphs, of which the halves get norms of another form, see `settle_norms`."""
    settle_norms(split.backbone)
    settle_norms(split.transformer)
    dynamic = is_dynamic(split.preparation)
    sides = {2: "height", 3: "width"} if dynamic else {}
    cells = {2: "rows", 3: "columns"} if dynamic else {}
    generator = np.random.default_rng(0)
    # Two at least, so that what holds for one alone is not traced.
    pixels = [case.noise(generator)[0] for case in _cases(split, (2, 3, 5))]
    with _quiet(), torch.inference_mode():
        levels = [_levels(split, batch) for batch in pixels]
        inputs = [with_position(split, batch) for batch in levels]
    cut = {tensor.name: {0: "batch", **cells} for tensor in split.cut}
    further: dict[str, dict[int, str]] = {}
    if split.position_channels is not None:
        further = {
            "pos": {0: "pos_batch", **cells},
            "mask": {0: "batch", **{axis - 1: name for axis, name in cells.items()}},
        }
    with _quiet():
        export_graph(
            split.backbone,
            (torch.from_numpy(pixels[0]),),
            backbone,
            inputs={"pixels": {0: "batch", **sides}},
            outputs=cut,
            opset=split.opset.backbone,
            feeds=[{"pixels": batch} for batch in pixels],
        )
        export_graph(
            split.transformer,
            tuple(torch.from_numpy(value) for value in inputs[0].values()),
            transformer,
            inputs={**cut, **further},
            outputs={"logits": {0: "batch"}, "boxes": {0: "batch"}},
            opset=split.opset.transformer,
            feeds=inputs,
        )


def check_halves(split: SplitModel, backbone: Path, transformer: Path) -> float:
    """Compare both halves with the model, alone and in a batch, and at other sizes if there are.

    Where two proposals of the encoder score the same but for rounding, either may come first, and
    discrete sampling may read either of two cells where a sample is half way between them. The
    model is given the graph's choice, which has to be as good as its own.

    Returns:
        The largest difference on logits and boxes, and between the choices of both: of the scores
        of proposals, and of the places of samples, in 0..1.

    Raises:
        ExportError: it is above `TOLERANCE`, or not a number.
    """
    halves = Halves(backbone, transformer)
    generator = np.random.default_rng(1)
    largest = 0.0
    for case in _cases(split, (1, 3)):
        pixels, padding = case.noise(generator)
        levels = halves.levels(pixels)
        found = halves.detect(with_position(split, levels, padding))
        expected, gap = detect_with(split.whole, pixels, padding, found)
        differences = [
            np.abs(one - other).max() for one, other in zip(found.outputs, expected, strict=True)
        ]
        # max() would pass over NaN.
        largest = float(np.max([largest, gap, *differences]))
        if not largest <= TOLERANCE:
            raise ExportError(
                f"the exported halves differ from the model by {largest:.2e} on a batch of "
                f"{len(pixels)}; at most {TOLERANCE:.0e} is allowed"
            )
    return largest


def _cases(split: SplitModel, batches: Sequence[int]) -> list[Case]:
    height, width = traced_size(split.preparation)
    if not is_dynamic(split.preparation):
        return [Case((height, width), ((height, width),) * batch) for batch in batches]
    return [
        Case(
            (height + 32 * index, width - 33 * index),
            tuple((height - 10 * n, width - 70 - 5 * n) for n in range(batch)),
        )
        for index, batch in enumerate(batches)
    ]


def _levels(split: SplitModel, pixels: NDArray[np.float32]) -> Arrays:
    """Levels to trace with, of which only the shapes matter: those of the first image, for all."""
    levels = split.backbone(torch.from_numpy(pixels[:1]))
    levels = levels if isinstance(levels, tuple) else (levels,)
    return {
        tensor.name: level.numpy().repeat(len(pixels), axis=0)
        for tensor, level in zip(split.cut, levels, strict=True)
    }


def with_position(
    split: SplitModel, levels: Arrays, padding: NDArray[np.bool_] | None = None
) -> Arrays:
    """The transformer's inputs: the levels, and `pos` [N,d,h,w] and `mask` [N,h,w] if it wants."""
    if split.position_channels is None:
        return levels
    (features,) = levels.values()
    rows, columns = features.shape[2:]
    if padding is None:
        stride = split.cut[0].stride
        padding = np.zeros((len(features), rows * stride, columns * stride), bool)
    inputs = [
        transformer_inputs(_geometry(image), (rows, columns), split.position_channels)
        for image in padding
    ]
    pos, mask = (np.concatenate(parts) for parts in zip(*inputs, strict=True))
    return {**levels, "pos": pos, "mask": mask}


def _geometry(padding: NDArray[np.bool_]) -> FrameGeometry:
    height, width = padding.shape
    valid = int((~padding[:, 0]).sum()), int((~padding[0]).sum())
    return FrameGeometry(*valid, height, width, *valid)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the tracer says of Python numbers: the comparison shows whether it matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        yield
