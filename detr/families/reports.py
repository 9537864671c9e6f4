"""What `tandem model import` says of a model of another family than DETR."""

from __future__ import annotations

import json

from detr.export import ExportedBundle
from detr.families.base import ImportedFamilyModel


def family_json(model: ImportedFamilyModel, exported: ExportedBundle) -> str:
    """One JSON object, with the names that a DETR's has where they mean the same."""
    manifest = exported.bundle.manifest
    return json.dumps(
        {
            "path": str(exported.bundle.folder),
            "name": manifest.name,
            "digest": exported.bundle.digest,
            "family": manifest.family,
            "cut": [tensor.model_dump() for tensor in manifest.cut],
            "input": manifest.input.model_dump(),
            "opset": manifest.opset.model_dump(),
            "max_difference": exported.max_difference,
            "remarks": list(model.remarks),
        }
    )


def family_text(model: ImportedFamilyModel, exported: ExportedBundle) -> str:
    """Lines for people."""
    manifest = exported.bundle.manifest
    cut = ", ".join(f"{each.channels} channels at stride {each.stride}" for each in manifest.cut)
    opset = manifest.opset
    return "\n".join(
        [
            f"{exported.bundle.folder}: {manifest.name}, of the family {manifest.family}",
            f"  cut          {cut}",
            f"  categories   {len(manifest.categories)}",
            f"  opset        {opset.backbone} of the backbone, {opset.transformer} of the "
            "transformer",
            f"  digest       {exported.bundle.digest}",
            f"  largest difference from the model in torch, alone and in a batch: "
            f"{exported.max_difference:.1e}",
            *(f"  note         {remark}" for remark in model.remarks),
        ]
    )
