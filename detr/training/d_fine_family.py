"""D-FINE as a family that is trained, evaluated and released."""

from __future__ import annotations

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
