"""D-FINE as a family that is trained, evaluated and released."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.bundle import Category, SigmoidScoring
from detr.export.bundle import ExportedBundle
from detr.families.base import Preparation
from detr.families.d_fine import DFine
from detr.families.export import FamilyDescription, export_family
from detr.families.preparation import NOT_NORMALISED
from detr.importing.hub import NOT_USED
from detr.importing.processors import PREPROCESSOR_NAME
from detr.training.d_fine import DFineTask
from detr.training.d_fine_model import PREFIX, load_plain, new_model, shift_scores
from detr.training.evaluation import Detector, pixels_predictor
from detr.training.families import Labelling
from detr.training.processes import CPU
from detr.training.recipe import Recipe
from detr.training.task import Task

# transformers has the heads under these names as well; the others serve noise in training.
_NOT_KEPT = ("class_embed.", "bbox_embed.", "model.denoising_class_embed.")


class DFineFamily:
    """See `detr.training.families.TrainedFamily`; a model is a `DFineForObjectDetection`."""

    def task(self, say: Callable[[str], None] = lambda _: None) -> Task:
        """See the Protocol."""
        return DFineTask(say)

    def plain_model(self, recipe: Recipe, average: dict[str, Tensor]) -> Any:
        """See the Protocol."""
        names = {name.removeprefix(PREFIX): name for name in average if name.startswith(PREFIX)}
        model = new_model(recipe)
        model.load_state_dict({plain: average[name] for plain, name in names.items()})
        shift_scores(model, recipe.score_shift)
        return model.eval()

    def weights(self, model: Any) -> dict[str, Tensor]:
        """See the Protocol."""
        return {k: v for k, v in model.state_dict().items() if not k.startswith(_NOT_KEPT)}

    def with_weights(self, recipe: Recipe, weights: Mapping[str, Tensor]) -> Any:
        """See the Protocol."""
        model = new_model(recipe)
        load_plain(model, weights)
        return model.eval()

    def detector(
        self,
        recipe: Recipe,
        model: Any,
        categories: tuple[Category, ...],
        device: torch.device = CPU,
    ) -> Detector:
        """See the Protocol."""
        model.to(device).eval()

        def outputs(pixels: Tensor) -> tuple[Tensor, Tensor]:
            found = model(pixels)
            return found.logits, found.pred_boxes

        return Detector(
            predict=pixels_predictor(outputs, device),
            policy=recipe.input,
            normalization=recipe.normalization,
            categories=categories,
            scoring=SigmoidScoring(top_k=model.config.num_queries),
        )

    def save_folder(
        self, recipe: Recipe, model: Any, categories: tuple[Category, ...], out: Path
    ) -> None:
        """Write a model as a Hugging Face folder; see `detr.training.folder`."""
        model.config.id2label = _row_names(model.config.num_labels, categories)
        model.config.label2id = {name: row for row, name in model.config.id2label.items()}
        model.save_pretrained(out)
        size, normalization = recipe.input.model_dump(exclude={"policy"}), recipe.normalization
        prepared = {
            "image_processor_type": "RTDetrImageProcessor",
            "do_resize": True,
            "size": size,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": normalization != NOT_NORMALISED,
            "image_mean": list(normalization.mean),
            "image_std": list(normalization.std),
        }
        (out / PREPROCESSOR_NAME).write_text(json.dumps(prepared, indent=2) + "\n")

    def export(
        self, recipe: Recipe, model: Any, out: Path, labelling: Labelling, *, overwrite: bool
    ) -> ExportedBundle:
        """See the Protocol."""
        exported = DFine().build(model.config.to_dict())
        exported.load_state_dict(model.state_dict())
        split = DFine().split(exported, Preparation(recipe.input, recipe.normalization))
        description = FamilyDescription(
            recipe.name, labelling.categories, labelling.license, labelling.origin
        )
        return export_family(split, out, description, overwrite=overwrite)


def _row_names(rows: int, categories: tuple[Category, ...]) -> dict[int, str]:
    """Names of all rows; those without a category are marked as not used."""
    names = {category.class_index: category.name for category in categories}
    return {row: names.get(row, NOT_USED) for row in range(rows)}
