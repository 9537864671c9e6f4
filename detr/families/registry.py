"""All families, and which of them a model is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detr.errors import WeightsError
from detr.families.base import Family
from detr.families.conditional_detr import ConditionalDetr
from detr.families.d_fine import DFine
from detr.families.detr import Detr
from detr.families.rf_detr import RfDetr
from detr.families.rt_detr_v2 import RtDetrV2
from detr.importing.reading import CONFIG_NAME
from detr.importing.stated import shown

FAMILIES: tuple[Family, ...] = (Detr(), ConditionalDetr(), RtDetrV2(), DFine(), RfDetr())


def family_of(config: Mapping[str, Any]) -> Family:
    """Find the family of a model; a DETR where nothing is said, as beside official weights.

    Args:
        config: the content of `config.json`.

    Raises:
        WeightsError: it is of another family, or of another task than detection.
    """
    model_type = config.get("model_type", Detr.name)
    for family in FAMILIES:
        if model_type in family.model_types:
            _require_detection(config)
            return family
    known = ", ".join(each for family in FAMILIES for each in family.model_types)
    raise WeightsError(
        f"{CONFIG_NAME}: model_type is {shown(model_type)}, and Tandem knows the families {known}."
    )


@contextmanager
def naming_what_is_assumed(weights: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """While Hugging Face weights are read as a DETR's since no configuration names their family.

    Raises:
        WeightsError: as what is done meanwhile; that no configuration was there is added.
    """
    try:
        yield
    except WeightsError as error:
        files = weights.glob("*.safetensors") if weights.is_dir() else [weights]
        if config or not any(file.suffix == ".safetensors" and file.exists() for file in files):
            raise
        told = str(error).rstrip(".")
        raise WeightsError(
            f"{told}. It was read as a DETR, since no {CONFIG_NAME} names another family."
        ) from error


def _require_detection(config: Mapping[str, Any]) -> None:
    named = config.get("architectures") or []
    for name in named if isinstance(named, list) else [named]:
        if not str(name).endswith("ForObjectDetection"):
            raise WeightsError(
                f"{CONFIG_NAME}: architectures names {shown(name)}, and Tandem takes only models "
                "for object detection."
            )
