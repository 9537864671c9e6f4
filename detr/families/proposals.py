"""What an encoder chooses: the proposals that the decoder begins with, in a graph and in torch.

Two-stage families rank thousands of cells and pass on the best few hundred, in order. Neighbours in
that order often differ by less than engines do, so whoever compares engines has to see the choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detr.families.sampling import Cells, outputs_of_cells, reading

Arrays = dict[str, NDArray[np.float32]]
Outputs = tuple[NDArray[np.float32], ...]
_OUTPUTS = ("logits", "boxes")


@dataclass(frozen=True)
class Found:
    """What a graph detects, and what rounding may have decided in it.

    Attributes:
        outputs: logits and boxes.
        proposals: their rows [N,Q], if it has any.
        cells: that it read, if its sampling is discrete.
    """

    outputs: Outputs
    proposals: NDArray[np.int64] | None
    cells: Cells = ()


class Halves:
    """Two exported halves in ONNX Runtime, of which the second tells what it chooses."""

    def __init__(self, backbone: Path, transformer: Path) -> None:
        """Load both."""
        self._backbone = _session(onnx.load(str(backbone)))
        model = onnx.load(str(transformer))
        choices = [node for node in model.graph.node if node.op_type == "TopK"]
        # Others are of a distribution's bins, and come later.
        self._choice = choices[0].output[1] if choices else None
        self._cells = outputs_of_cells(model.graph)
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None)
            for name in [*self._chosen(), *self._cells]
        )
        self._transformer = _session(model)

    @property
    def reads_cells(self) -> bool:
        """Whether sampling is discrete, so that a graph tells which cells it reads."""
        return bool(self._cells)

    def levels(self, pixels: NDArray[np.float32]) -> Arrays:
        """The cut tensors of pixels [N,3,H,W], by name."""
        names = [output.name for output in self._backbone.get_outputs()]
        return dict(zip(names, self._backbone.run(names, {"pixels": pixels}), strict=True))

    def detect(self, inputs: Arrays) -> Found:
        """What the second half makes of its inputs."""
        names = [*_OUTPUTS, *self._cells, *self._chosen()]
        logits, boxes, *further = self._transformer.run(names, inputs)
        proposals = None if self._choice is None else further.pop()
        return Found((logits, boxes), proposals, tuple(further))

    def _chosen(self) -> list[str]:
        return [] if self._choice is None else [self._choice]


def detect_with(
    whole: nn.Module, pixels: NDArray[np.float32], padding: NDArray[np.bool_], found: Found
) -> tuple[Outputs, float]:
    """Run a model with a graph's proposals and cells in the place of those that it would choose.

    Returns:
        Logits and boxes, and how far the graph's choice is from the model's own: the largest
        difference between the scores of proposals, and the largest distance to a cell.

    Raises:
        ExportError: see `detr.families.sampling.reading`.
    """
    given = None if found.proposals is None else torch.from_numpy(found.proposals)
    with _choosing(_Choice(given)) as choice, reading(whole, found.cells) as samples:
        outputs = _run(whole, pixels, padding)
    return outputs, max(choice.gap, samples.gap)


def detect(
    whole: nn.Module, pixels: NDArray[np.float32], padding: NDArray[np.bool_]
) -> tuple[Outputs, NDArray[np.int64] | None]:
    """Run a model; returns logits and boxes, and its proposals, if it has any."""
    with _choosing(_Choice(None)) as choice:
        outputs = _run(whole, pixels, padding)
    return outputs, None if choice.own is None else choice.own.numpy()


@dataclass
class _Choice:
    given: Tensor | None
    own: Tensor | None = None
    gap: float = 0.0
    original: Any = field(default=torch.topk)

    def topk(self, scores: Tensor, k: int, dim: int = -1) -> tuple[Tensor, Tensor]:
        """Stand in for `torch.topk`, by which these models choose proposals, and nothing else."""
        values, self.own = self.original(scores, k, dim=dim)
        if self.given is None:
            return values, self.own
        chosen = scores.gather(dim, self.given)
        differing = chosen != values
        self.gap = float((chosen - values)[differing].abs().max()) if differing.any() else 0.0
        return chosen, self.given


@contextmanager
def _choosing(choice: _Choice) -> Iterator[_Choice]:
    with mock.patch.object(torch, "topk", choice.topk):
        yield choice


@torch.inference_mode()
def _run(whole: nn.Module, pixels: NDArray[np.float32], padding: NDArray[np.bool_]) -> Outputs:
    outputs = whole(torch.from_numpy(pixels), torch.from_numpy(padding))
    return tuple(output.numpy() for output in outputs)


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
