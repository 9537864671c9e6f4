"""Write a DETR as a bundle, and check both of its halves against the model."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common.bundle import (
    Architecture,
    Bundle,
    Category,
    DetrInput,
    DetrManifest,
    Normalization,
    load_bundle,
    write_bundle,
)
from common.bundle.folder import MANIFEST_NAME, ONNX_NAMES
from common.domain.errors import ConfigurationError
from common.domain.frames import FrameGeometry
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.position import transformer_inputs
from detr.errors import ExportError
from detr.export.cases import Case
from detr.export.graph import write_backbone, write_transformer
from detr.export.halves import BackboneHalf, Split, TransformerHalf
from detr.model import DETR

TOLERANCE = 1e-4
"""Largest difference allowed on any logit and any box coordinate (0..1)."""


# None has the size that was traced.
CASES = (
    Case(input_size=(96, 160), valid_sizes=((96, 160),)),
    Case(input_size=(128, 160), valid_sizes=((90, 160),)),
    Case(input_size=(160, 97), valid_sizes=((160, 97), (101, 64))),
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
        pixels, padding = case.noise(generator)
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


def _positions(
    case: Case, features_shape: tuple[int, ...], hidden_dim: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The transformer's `pos` [N,d,h,w] and `mask` [N,h,w]."""
    grid = (features_shape[2], features_shape[3])
    inputs = [
        transformer_inputs(FrameGeometry(*valid, *case.input_size, *valid), grid, hidden_dim)
        for valid in case.valid_sizes
    ]
    return np.concatenate([pos for pos, _ in inputs]), np.concatenate([mask for _, mask in inputs])


Progress = Callable[[str], None]
"""Called with what begins, in a few words."""


@dataclass(frozen=True)
class ExportedBundle:
    """What `export_bundle` wrote.

    Attributes:
        bundle: the bundle on disk.
        max_difference: between the halves in ONNX Runtime and the model in torch, the largest on
            logits and boxes.
    """

    bundle: Bundle
    max_difference: float


@dataclass(frozen=True)
class Description:
    """What a bundle says about its model, beside the weights; see `common.bundle.Manifest`."""

    name: str
    input: DetrInput
    categories: tuple[Category, ...]
    license: str
    origin: str
    trained: bool = True
    normalization: Normalization = Normalization()


def export_bundle(
    model: DETR,
    out: Path,
    description: Description,
    *,
    split: Split = "projected",
    overwrite: bool = False,
    progress: Progress = lambda _: None,
) -> ExportedBundle:
    """Export both halves, check them against the model, and write the bundle.

    `out` appears only when all went well. The model is not changed; it may have been built with
    `nn.BatchNorm2d`, whose running statistics are then used.

    Args:
        model: the model.
        out: the bundle's folder.
        description: what else the manifest says.
        split: where the model is cut.
        overwrite: replace a bundle that is there already (but never another folder).
        progress: called with each step, in a few words.

    Raises:
        ConfigurationError: `out` exists.
        ExportError: the halves do not compute what the model computes.
    """
    architecture = model.architecture
    reference = frozen_copy(model)
    with new_folder(out, overwrite) as folder:
        paths = {stage: folder / name for stage, name in ONNX_NAMES.items()}
        progress("exporting the backbone")
        write_backbone(BackboneHalf(frozen_copy(model), split), paths[Stage.BACKBONE])
        progress("exporting the transformer")
        channels = (
            architecture.hidden_dim if split == "projected" else architecture.backbone_channels
        )
        half = TransformerHalf(frozen_copy(model), split)
        write_transformer(half, channels, architecture.hidden_dim, paths[Stage.TRANSFORMER])
        progress("comparing both halves with the model")
        difference = check_halves(reference, paths[Stage.BACKBONE], paths[Stage.TRANSFORMER])
        write_bundle(folder, _manifest(architecture, description, split, channels))
    return ExportedBundle(bundle=load_bundle(out), max_difference=difference)


@contextmanager
def new_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder that becomes `out` when all went well, and is gone when not.

    Args:
        out: the bundle's folder.
        overwrite: replace a bundle that is there already (but never another folder).

    Raises:
        ConfigurationError: `out` exists.
    """
    _refuse_existing(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        yield folder
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)


def frozen_copy(model: DETR) -> DETR:
    """Return a copy for inference: frozen norms, evaluation mode, its own weights."""
    copy = DETR(model.architecture)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST_NAME).is_file():
        raise ConfigurationError(f"{out} exists and is not a bundle; choose another folder")
    if not overwrite:
        raise ConfigurationError(f"{out} holds a bundle already; choose another folder")


def _manifest(
    architecture: Architecture, description: Description, split: Split, channels: int
) -> DetrManifest:
    return DetrManifest(
        name=description.name,
        architecture=architecture,
        split=split,
        feature_channels=channels,
        feature_stride=architecture.stride,
        input=description.input,
        normalization=description.normalization,
        categories=description.categories,
        # write_bundle computes the digests.
        files=dict.fromkeys(ONNX_NAMES.values(), ""),
        license=description.license,
        origin=description.origin,
        trained=description.trained,
    )
