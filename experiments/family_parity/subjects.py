"""What is compared: a model as transformers computes it, and its bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bundle import Bundle, ShortestEdgeInput
from common.domain.placement import Stage
from detr.export import Description, export_bundle
from detr.families.base import SplitModel
from detr.families.conditional_detr import WholeWithPadding
from detr.families.detr import Detr
from detr.families.export import FamilyDescription, export_family
from detr.families.graphs import check_halves
from detr.families.importing import RANDOM_SEED, import_family
from detr.families.loading import build_model
from detr.families.published import PUBLISHED
from detr.families.random_weights import spread_weights
from detr.families.registry import family_of
from detr.families.sizes import traced_size
from detr.importing import import_weights

_DETR_DEPTHS = {"detr_r50": [3, 4, 6, 3], "detr_r101": [3, 4, 23, 3]}
NAMES = (*_DETR_DEPTHS, *PUBLISHED)
"""Of all sizes. DETR's DC5 is left out: transformers dilates a backbone of timm's only."""
_ORIGIN = "random weights"


@dataclass(frozen=True)
class Subject:
    """A model in two halves and in a bundle.

    Attributes:
        split: with transformers' own model as the whole one.
        bundle: that is served.
        difference: the largest between halves and whole model, alone and in a batch of three.
    """

    split: SplitModel
    bundle: Bundle
    difference: float


def subject_of(name: str, folder: Path, sampling: str | None) -> Subject:
    """Make a published size with random weights.

    Args:
        name: one of `NAMES`.
        folder: to write to.
        sampling: `default` or `discrete`; None: as published.

    Raises:
        TandemError: as import and export.
    """
    if name in _DETR_DEPTHS:
        return _detr(name, folder)
    config = PUBLISHED[name]
    imported = import_family(family_of(config), folder, config, sampling=sampling, random=True)
    described = FamilyDescription(name, imported.categories, "none", _ORIGIN, trained=False)
    exported = export_family(imported.split, folder / "bundle", described)
    return Subject(imported.split, exported.bundle, exported.max_difference)


def _detr(name: str, folder: Path) -> Subject:
    """Make a DETR of transformers', and import it into Tandem's own as anybody's."""
    family = Detr()
    preparation = family.preparation({}, {})
    model: Any = build_model(family.name, "Detr", _detr_config(_DETR_DEPTHS[name]))
    spread_weights(model, RANDOM_SEED, traced_size(preparation))
    _save(model, folder / "weights")
    imported = import_weights(folder / "weights")
    described = Description(
        name, ShortestEdgeInput(), imported.categories, "none", _ORIGIN, trained=False
    )
    bundle = export_bundle(imported.model, folder / "bundle", described).bundle
    split = family.split(imported.model, preparation)
    split = dataclasses.replace(split, whole=WholeWithPadding(model))
    return Subject(split, bundle, check_halves(split, *map(bundle.onnx_path, Stage)))


def _save(model: Any, folder: Path) -> None:
    """Write as transformers does, without its progress bar."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    logging.disable_progress_bar()
    model.save_pretrained(folder)


def _detr_config(depths: list[int]) -> Mapping[str, Any]:
    return {
        "model_type": "detr",
        "use_timm_backbone": False,
        "backbone_config": {
            "model_type": "resnet",
            "depths": depths,
            "layer_type": "bottleneck",
            "out_features": ["stage4"],
        },
        "num_labels": 91,
    }
