"""A Hugging Face folder of any family to a model in two halves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from common.bundle import FixedInput, InputPolicy, StretchInput
from common.domain.errors import ConfigurationError
from detr.errors import WeightsError
from detr.families.base import Family, ImportedFamilyModel, Preparation
from detr.families.categories import categories_of
from detr.families.loading import computing
from detr.families.random_weights import spread_weights
from detr.families.sizes import traced_size
from detr.importing.hub import names_of_rows
from detr.importing.processors import PREPROCESSOR_NAME, read_processor
from detr.importing.reading import CONFIG_NAME, INDEX_SUFFIX, SAFETENSORS_NAME

RANDOM_SEED = 20200526
DEFAULT_SAMPLING, DISCRETE_SAMPLING = "default", "discrete"
_SAMPLING_FIELD = "decoder_method"


def import_family(
    family: Family,
    folder: Path,
    config: Mapping[str, Any],
    *,
    input_policy: InputPolicy | None = None,
    sampling: str | None = None,
    random: bool = False,
) -> ImportedFamilyModel:
    """Read a model, and cut it.

    Args:
        family: that the configuration names.
        folder: of the model.
        config: the content of its `config.json`.
        input_policy: of frames; as `preprocessor_config.json` says, or as the family's published
            models have it, if left out.
        sampling: `default` or `discrete`, how deformable attention reads features; as `config.json`
            says if left out.
        random: give it random weights, and read none.

    Raises:
        WeightsError: the folder holds what Tandem cannot honour, by its name.
        ConfigurationError: transformers is not installed, or the family has no such input or
            sampling.
    """
    remarks: list[str] = []
    config = with_sampling(family, config, sampling)
    stated = read_processor(folder)
    preparation = family.preparation(stated, config)
    if input_policy is not None:
        preparation = _with_input(family, preparation, input_policy)
    if not stated:
        remarks.append(
            f"{folder} has no {PREPROCESSOR_NAME}: frames are prepared as for the family's "
            "published models."
        )
    names = names_of_rows(config)
    with computing(CONFIG_NAME):
        model = _model(family, folder, config, preparation, random)
        settings: Any = model.config
        rows = int(settings.num_labels)
        categories, said = categories_of(folder, rows, names)
        split = family.split(model, preparation)
    return ImportedFamilyModel(split, categories, (*remarks, *said))


def folder_of(path: Path) -> Path:
    """The folder of a model that a user named, by itself or by the file of its weights.

    Raises:
        WeightsError: it is another file, which would not be read.
    """
    if path.is_dir():
        return path
    if path.name not in (SAFETENSORS_NAME, f"{SAFETENSORS_NAME}{INDEX_SUFFIX}", CONFIG_NAME):
        raise WeightsError(
            f"{path} is not {SAFETENSORS_NAME}: of this family a folder is imported, with its "
            "weights under that name."
        )
    return path.parent


def with_sampling(
    family: Family, config: Mapping[str, Any], sampling: str | None
) -> Mapping[str, Any]:
    """Return a configuration with this sampling; raises ConfigurationError if there is none."""
    if sampling is None:
        return config
    if family.samples_discretely:
        return {**config, _SAMPLING_FIELD: sampling}
    if sampling == DEFAULT_SAMPLING:
        return config
    raise ConfigurationError(f"--sampling {sampling}: {family.name} models have no such sampling")


def _model(
    family: Family,
    folder: Path,
    config: Mapping[str, Any],
    preparation: Preparation,
    random: bool,
) -> nn.Module:
    if not random:
        return family.read(folder, config)
    model = family.build(config)
    family.require_input(model, preparation)
    spread_weights(model, RANDOM_SEED, traced_size(preparation))
    return model


def _with_input(family: Family, preparation: Preparation, policy: InputPolicy) -> Preparation:
    if isinstance(preparation.input, StretchInput):
        if not isinstance(policy, FixedInput):
            raise ConfigurationError(
                f"--input-size: {family.name} models take only HxW, to which frames are stretched"
            )
        policy = StretchInput(height=policy.height, width=policy.width)
    return Preparation(policy, preparation.normalization)
