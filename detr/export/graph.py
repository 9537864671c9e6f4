"""Writing one half as an ONNX file that TensorRT 8.2 reads as well as today's runtimes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from detr.export.folding import fold_shapes
from detr.export.halves import BackboneHalf, TransformerHalf

OPSET = 13
"""The newest opset that TensorRT 8.2 parses."""

EXPORTER_DEPRECATIONS = (
    "You are using the legacy TorchScript-based ONNX export",
    r"The feature will be removed\. Please remove usage of this function",
)
"""What torch 2.13 says of its older exporter, and that exporter of its own parts. The newer one
cannot be used: asked for opset 13 it writes 18, and says so only in a log."""

EXPORTER_REMARKS = (
    "Constant folding - ",
    "ONNX Export mode is set to TrainingMode.EVAL",
    "Exporting aten::index operator of advanced indexing",
)
"""What it says of folding that it leaves to others, of norms, and of gathers; whether the graph is
right is measured."""

TRACED_SIZE = (64, 96)
"""Height and width of the image that is traced; any other works as well."""


def write_backbone(half: BackboneHalf, path: Path) -> None:
    """`pixels` [N,3,H,W] to `features` [N,C,h,w]."""
    half.eval()
    export_graph(
        half,
        (torch.zeros(1, 3, *TRACED_SIZE),),
        path,
        inputs={"pixels": {0: "batch", 2: "height", 3: "width"}},
        outputs={"features": {0: "batch", 2: "rows", 3: "columns"}},
    )


def write_transformer(half: TransformerHalf, channels: int, hidden_dim: int, path: Path) -> None:
    """`features` [N,C,h,w], `pos` [N or 1,d,h,w], `mask` [N,h,w] to `logits` and `boxes`."""
    half.eval()
    rows, columns = (size // 32 for size in TRACED_SIZE)
    export_graph(
        half,
        (
            torch.zeros(1, channels, rows, columns),
            torch.zeros(1, hidden_dim, rows, columns),
            torch.zeros(1, rows, columns),
        ),
        path,
        inputs={
            "features": {0: "batch", 2: "rows", 3: "columns"},
            "pos": {0: "pos_batch", 2: "rows", 3: "columns"},
            "mask": {0: "batch", 1: "rows", 2: "columns"},
        },
        outputs={"logits": {0: "batch"}, "boxes": {0: "batch"}},
    )


def export_graph(
    half: torch.nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: dict[str, dict[int, str]],
    outputs: dict[str, dict[int, str]],
    *,
    opset: int = OPSET,
    feeds: Sequence[Mapping[str, NDArray[np.float32]]] = (),
) -> None:
    """Write a module as an ONNX file, and have onnx check it.

    Args:
        half: the module, in evaluation mode.
        example: what it is traced with.
        path: of the file.
        inputs: the dynamic axes of each input and their names.
        outputs: likewise.
        opset: of the graph.
        feeds: see `detr.export.folding.fold_shapes`; with them weights lose their names.
    """
    with torch.no_grad(), warnings.catch_warnings():
        results = half(*example)
        for message in EXPORTER_DEPRECATIONS:
            warnings.filterwarnings("ignore", message, DeprecationWarning)
        for message in EXPORTER_REMARKS:
            warnings.filterwarnings("ignore", message, UserWarning)
        torch.onnx.export(
            half,
            example,
            str(path),
            dynamo=False,
            opset_version=opset,
            # Folding renames the weights, by which the torch engine finds those of a DETR.
            do_constant_folding=bool(feeds),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={**inputs, **outputs},
        )
    model = onnx.load(str(path))
    if feeds:
        fold_shapes(model, feeds)
    else:
        _unshare_initializers(model.graph)
    results = results if isinstance(results, tuple) else (results,)
    for value, result in zip(model.graph.output, results, strict=True):
        _state_static_axes(value, result, dynamic=outputs[value.name])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _unshare_initializers(graph: onnx.GraphProto) -> None:
    """Give each parameter its own initializer.

    The exporter stores parameters of equal value once and lets the others be Identity nodes of the
    first; then a parameter could not be found by its name.
    """
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in initializers:
            own = graph.initializer.add()
            own.CopyFrom(initializers[node.input[0]])
            own.name = node.output[0]
            graph.node.remove(node)


def _state_static_axes(value: onnx.ValueInfoProto, result: Tensor, dynamic: dict[int, str]) -> None:
    """Put the sizes that never change, which the exporter's inference lost, into an output."""
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if axis not in dynamic:
            dim.dim_value = result.shape[axis]
