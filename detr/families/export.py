"""Write a model of any family but DETR's own as a bundle of format 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.bundle import Category, FamilyManifest, load_bundle, write_bundle
from common.bundle.folder import ONNX_NAMES
from common.domain.placement import Stage
from detr.export.bundle import ExportedBundle, new_folder
from detr.families.base import SplitModel
from detr.families.graphs import check_halves, write_halves
from detr.families.loading import computing
from detr.importing.reading import CONFIG_NAME


@dataclass(frozen=True)
class FamilyDescription:
    """What a bundle says about a model beside its halves; see `common.bundle.FamilyManifest`."""

    name: str
    categories: tuple[Category, ...]
    license: str
    origin: str
    trained: bool = True


def export_family(
    split: SplitModel,
    out: Path,
    description: FamilyDescription,
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportedBundle:
    """Export both halves, check them against the model, and write the bundle.

    `out` appears only when all went well.

    Args:
        split: the model in two halves.
        out: the bundle's folder.
        description: what else the manifest says.
        overwrite: replace a bundle that is there already (but never another folder).
        progress: called with each step, in a few words.

    Raises:
        ConfigurationError: `out` exists.
        WeightsError: what the configuration describes cannot be computed.
        ExportError: the halves do not compute what the model computes.
    """
    with new_folder(out, overwrite) as folder:
        backbone, transformer = (
            folder / ONNX_NAMES[stage] for stage in (Stage.BACKBONE, Stage.TRANSFORMER)
        )
        with computing(CONFIG_NAME):
            progress("exporting both halves")
            write_halves(split, backbone, transformer)
            progress("comparing both halves with the model")
            difference = check_halves(split, backbone, transformer)
            manifest = _manifest(split, description)
        write_bundle(folder, manifest)
    return ExportedBundle(bundle=load_bundle(out), max_difference=difference)


def _manifest(split: SplitModel, description: FamilyDescription) -> FamilyManifest:
    return FamilyManifest(
        name=description.name,
        family=split.family,
        configuration=dict(split.configuration),
        opset=split.opset,
        precision=split.precision,
        cut=split.cut,
        position_channels=split.position_channels,
        scoring=split.scoring,
        input=split.preparation.input,
        normalization=split.preparation.normalization,
        categories=description.categories,
        # write_bundle computes the digests.
        files=dict.fromkeys(ONNX_NAMES.values(), ""),
        license=description.license,
        origin=description.origin,
        trained=description.trained,
    )
