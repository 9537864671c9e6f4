"""A DETR to a bundle's folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.bundle import (
    Architecture,
    Bundle,
    Category,
    InputPolicy,
    Manifest,
    Normalization,
    load_bundle,
    write_bundle,
)
from common.bundle.folder import MANIFEST_NAME, ONNX_NAMES
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from detr.export.check import check_halves
from detr.export.graph import write_backbone, write_transformer
from detr.export.halves import BackboneHalf, Split, TransformerHalf
from detr.model import DETR

Progress = Callable[[str], None]
"""Is told what begins, in a few words."""


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
    """What a bundle says of its model beside the weights; see `common.bundle.Manifest`."""

    name: str
    input: InputPolicy
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
        split: where to cut.
        overwrite: replace a bundle that is there already (but never another folder).
        progress: is told each step.

    Raises:
        ConfigurationError: `out` exists.
        ExportError: the halves do not compute what the model computes.
    """
    _refuse_existing(out, overwrite)
    architecture = model.architecture
    reference = frozen_copy(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
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
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return ExportedBundle(bundle=load_bundle(out), max_difference=difference)


def frozen_copy(model: DETR) -> DETR:
    """The model for inference: frozen norms, evaluation mode, weights of its own."""
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
) -> Manifest:
    return Manifest(
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
