"""Both exported halves in ONNX Runtime, as the services run them, against the model in torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common.domain.frames import FrameGeometry
from common.engines.registry import load_engine
from common.vision.position import transformer_inputs
from detr.errors import ExportError
from detr.model import DETR

TOLERANCE = 1e-4
"""Largest difference allowed on any logit and any box coordinate (0..1)."""


@dataclass(frozen=True)
class _Case:
    """A batch: the input's height and width, and the valid height and width of each image."""

    input_size: tuple[int, int]
    valid_sizes: tuple[tuple[int, int], ...]


# None has the size that was traced.
CASES = (
    _Case(input_size=(96, 160), valid_sizes=((96, 160),)),
    _Case(input_size=(128, 160), valid_sizes=((90, 160),)),
    _Case(input_size=(160, 97), valid_sizes=((160, 97), (101, 64))),
)


def check_halves(model: DETR, backbone: Path, transformer: Path) -> float:
    """Compare at sizes other than the traced one, with padding, and in a batch of two.

    Args:
        model: the whole model, in evaluation mode.
        backbone: the exported first half.
        transformer: the exported second half.

    Returns:
        The largest difference on logits and boxes.

    Raises:
        ExportError: it is above `TOLERANCE`, or not a number.
    """
    first = load_engine("onnxruntime", backbone, 0)
    second = load_engine("onnxruntime", transformer, 0)
    generator = np.random.default_rng(0)
    largest = 0.0
    for case in CASES:
        pixels, padding = _batch(case, generator)
        with torch.inference_mode():
            expected = model(torch.from_numpy(pixels), torch.from_numpy(padding))
        features = first.run({"pixels": pixels})["features"]
        pos, mask = _positions(case, features.shape, model.architecture.hidden_dim)
        outputs = second.run({"features": features, "pos": pos, "mask": mask})
        differences = [
            np.abs(outputs["logits"] - expected.logits.numpy()).max(),
            np.abs(outputs["boxes"] - expected.boxes.numpy()).max(),
        ]
        # max() would pass over NaN.
        largest = float(np.max([largest, *differences]))
        if not largest <= TOLERANCE:
            raise ExportError(
                f"the exported halves differ from the model by {largest:.2e} on an input of "
                f"{case.input_size[0]} x {case.input_size[1]}; at most {TOLERANCE:.0e} is allowed"
            )
    return largest


def _batch(
    case: _Case, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Noise [N,3,H,W], 0 on padding, and the padding [N,H,W]."""
    shape = (len(case.valid_sizes), *case.input_size)
    padding = np.ones(shape, bool)
    for image, (height, width) in zip(padding, case.valid_sizes, strict=True):
        image[:height, :width] = False
    noise = generator.standard_normal((shape[0], 3, *case.input_size), np.float32)
    return noise * ~padding[:, None], padding


def _positions(
    case: _Case, features_shape: tuple[int, ...], hidden_dim: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The transformer's `pos` [N,d,h,w] and `mask` [N,h,w]."""
    grid = (features_shape[2], features_shape[3])
    inputs = [
        transformer_inputs(FrameGeometry(*valid, *case.input_size, *valid), grid, hidden_dim)
        for valid in case.valid_sizes
    ]
    return np.concatenate([pos for pos, _ in inputs]), np.concatenate([mask for _, mask in inputs])
