"""D-FINE as it is trained: transformers' model, started from scratch or from a folder's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.bundle import StretchInput
from common.domain.errors import ConfigurationError
from detr.errors import WeightsError
from detr.families import d_fine
from detr.families.loading import check_configuration, computing, transformers_class
from detr.importing.checkpoint import check_values
from detr.importing.reading import CONFIG_NAME, read_config, read_safetensors, read_weights
from detr.training.checkpoints import WEIGHTS_NAME, load_checkpoint, read_record
from detr.training.recipe import FromRecord, FromWeights, Recipe
from detr.training.state import recipe_of

Labels = list[dict[str, Tensor]]
"""For each image `class_labels` [T] and `boxes` [T,4], as transformers takes them."""

PREFIX = "d_fine."
# Of what has a row for each class.
_HEADS = ("class_embed.", "enc_score_head.", "denoising_class_embed.")
_LABELS = ("id2label", "label2id", "num_labels")


class DFineNetwork(nn.Module):
    """A D-FINE whose every layer's outputs are kept, and its losses."""

    def __init__(self, model: Any) -> None:
        """Take a `DFineForObjectDetection`, as it is."""
        super().__init__()
        from transformers.loss.loss_d_fine import DFineLoss

        self.d_fine = model
        self.criterion: Any = DFineLoss(model.config)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor, labels: Labels) -> Any:
        """Images [N,3,H,W] to transformers' `DFineModelOutput`; `labels` are for denoising."""
        return self.d_fine.model(images, labels=labels)


def completed(recipe: Recipe, resumed: Path | None = None) -> Recipe:
    """Return a recipe whose configuration is whole: what it leaves open is that of its weights.

    Args:
        recipe: of any family.
        resumed: the checkpoint of a run that goes on, which needs its weights' folder no more.

    Raises:
        ConfigurationError: the configuration does not say how many classes there are.
        WeightsError: the weights' folder has no `config.json` of a D-FINE, or the configuration
            has a field that Tandem does not honour, or makes no model, or one too large.
    """
    if recipe.family != d_fine.NAME:
        return recipe
    content = dict(recipe.configuration or {})
    if resumed is not None and resumed.is_file():
        content = _over(recipe_of(load_checkpoint(resumed), resumed).configuration or {}, content)
    elif isinstance(recipe.start, FromWeights) and recipe.start.file is not None:
        content = _over(_folder_config(recipe.start.file), content)
    source = f"recipe {recipe.name}, configuration"
    d_fine.FIELDS.checked(content, source)
    if "num_labels" not in content:
        if not content.get("id2label"):
            raise ConfigurationError(
                f"recipe {recipe.name}: configuration.num_labels is missing, the number of classes."
            )
        content["num_labels"] = len(content["id2label"])
    check_configuration(d_fine.NAME, "DFine", content, source)
    return recipe.model_copy(update={"configuration": content})


def _folder_config(folder: Path) -> dict[str, Any]:
    content = read_config(folder)
    if content.get("model_type") != d_fine.NAME:
        raise WeightsError(f"{folder} has no {CONFIG_NAME} of a D-FINE (model_type d_fine).")
    return content


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the changes; names of classes go when their number changes."""
    dropped = _LABELS if "num_labels" in changes else ()
    return {**{k: v for k, v in base.items() if k not in dropped}, **changes}


def build_network(recipe: Recipe, say: Callable[[str], None]) -> DFineNetwork:
    """Build what a recipe trains; starting values come from torch's generator.

    Args:
        recipe: of the run, completed.
        say: called with what of the recipe's weights is not used.

    Raises:
        ConfigurationError: transformers is missing.
        WeightsError: the recipe's folder of weights cannot be read, or does not fit, or the parts
            of its configuration do not fit together.
    """
    if isinstance(recipe.start, FromWeights) and recipe.start.file is not None:
        model = _started(recipe, recipe.start.file, say)
    else:
        model = new_model(recipe)
        if isinstance(recipe.start, FromRecord) and recipe.start.folder is not None:
            _start_from_record(model, recipe.start.folder)
    check_computable(recipe, model)
    return DFineNetwork(model)


@torch.no_grad()
def check_computable(recipe: Recipe, model: Any) -> None:
    """Check that a picture passes a model, which is left in training mode.

    Raises:
        WeightsError: parts of the recipe's configuration do not fit together.
    """
    assert isinstance(recipe.input, StretchInput)
    model.eval()
    with computing(f"recipe {recipe.name}, configuration"):
        model(torch.zeros(1, 3, recipe.input.height, recipe.input.width))
    model.train()


def _start_from_record(model: Any, folder: Path) -> None:
    """Load a released run's weights, undoing the shift of scores that releases get."""
    written = read_record(folder)
    tensors = read_weights(folder / WEIGHTS_NAME).tensors
    load_plain(model, {name: value.float() for name, value in tensors.items()})
    shift_scores(model, -written["recipe"].get("score_shift", 0.0))


def _settings(recipe: Recipe) -> Any:
    content = {
        **(recipe.configuration or {}),
        "freeze_backbone_batch_norms": recipe.norm == "frozen",
    }
    return transformers_class(d_fine.NAME, "DFineConfig").from_dict(content)


def new_model(recipe: Recipe) -> Any:
    """Return a `DFineForObjectDetection` with starting values from torch's generator.

    Raises:
        ConfigurationError: transformers is missing.
    """
    return transformers_class(d_fine.NAME, "DFineForObjectDetection")(_settings(recipe))


@torch.no_grad()
def shift_scores(model: Any, shift: float) -> None:
    """Add to every class logit that a `DFineForObjectDetection` gives, in place."""
    model.model.decoder.class_embed[model.model.decoder.eval_idx].bias += shift


def load_plain(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Give a model its weights; what serves noise in training may be missing.

    Raises:
        WeightsError: something else is missing, or there is more, or another shape.
    """
    try:
        missing, surplus = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"the weights do not fit the recipe's configuration: {error}") from error
    # The heads have two names each.
    missing = [k for k in missing if k.startswith("model.") and "denoising_class_embed" not in k]
    if missing or surplus:
        named = ", ".join([*missing, *surplus][:5])
        raise WeightsError(f"the weights do not fit the recipe's configuration: {named}.")


def _started(recipe: Recipe, folder: Path, say: Callable[[str], None]) -> Any:
    """A model with a folder's weights; heads for another number of classes are made anew."""
    tensors = read_safetensors(folder)
    for key, tensor in tensors.items():
        if not key.endswith(".num_batches_tracked"):
            check_values(folder, key, tensor)
    kind = transformers_class(d_fine.NAME, "DFineForObjectDetection")
    model, report = kind.from_pretrained(
        None,
        config=_settings(recipe),
        state_dict=tensors,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    anew = {str(key[0]) for key in report["mismatched_keys"]}
    lacking = {key for key in report["missing_keys"] if "denoising_class_embed" not in key} - anew
    strange = sorted(
        {key for key in anew if not any(head in key for head in _HEADS)}
        | {key for key in (*lacking, *report["unexpected_keys"]) if not _is_counter(key)}
    )
    if strange:
        raise WeightsError(
            f"{folder} does not fit the recipe's configuration: {', '.join(strange[:5])}."
        )
    if anew:
        say(
            f"{folder} has another number of classes than the recipe's {recipe.classes}: the class "
            "heads are made anew."
        )
    # from_pretrained makes trainable what D-FINE holds fixed: the corners' scale.
    started = new_model(recipe)
    started.load_state_dict(model.state_dict())
    return started


def _is_counter(key: str) -> bool:
    return key.endswith(".num_batches_tracked")
