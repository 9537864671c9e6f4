"""What differs from family to family in a run: its task, what ships, how that is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from common.bundle import Category
from common.domain.errors import ConfigurationError
from detr.export import Description, export_bundle
from detr.export.bundle import ExportedBundle
from detr.model import DETR
from detr.training.evaluation import Detector, torch_predictor
from detr.training.processes import CPU
from detr.training.recipe import Recipe
from detr.training.state import plain_model
from detr.training.task import DetectionTask, Task


def _silent(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Labelling:
    """What a bundle says about a trained model that its recipe does not."""

    categories: tuple[Category, ...]
    license: str
    origin: str


class TrainedFamily(Protocol):
    """One family that can be trained; `model` is always the plain model, which ships."""

    def task(self, say: Callable[[str], None] = _silent) -> Task:
        """Return what trains detection without a teacher.

        Args:
            say: called with what of the recipe's weights is not used.
        """

    def plain_model(self, recipe: Recipe, average: dict[str, Tensor]) -> nn.Module:
        """Return the averaged weights of a run as the model that ships."""

    def weights(self, model: Any) -> dict[str, Tensor]:
        """Return the weights of a model, which `with_weights` takes."""

    def with_weights(self, recipe: Recipe, weights: Mapping[str, Tensor]) -> nn.Module:
        """Return the model that has these weights, in evaluation mode."""

    def detector(
        self,
        recipe: Recipe,
        model: Any,
        categories: tuple[Category, ...],
        device: torch.device = CPU,
    ) -> Detector:
        """Return a model ready to be evaluated."""

    def export(
        self, recipe: Recipe, model: Any, out: Path, labelling: Labelling, *, overwrite: bool
    ) -> ExportedBundle:
        """Write a model's bundle; errors as `export_bundle`."""


class DetrFamily:
    """DETR, by the project's own modules; see `TrainedFamily`."""

    def task(self, say: Callable[[str], None] = _silent) -> Task:
        """See the Protocol."""
        return DetectionTask(say)

    def plain_model(self, recipe: Recipe, average: dict[str, Tensor]) -> DETR:
        """See the Protocol."""
        return plain_model(recipe, average)

    def weights(self, model: DETR) -> dict[str, Tensor]:
        """See the Protocol."""
        return model.state_dict()

    def with_weights(self, recipe: Recipe, weights: Mapping[str, Tensor]) -> DETR:
        """See the Protocol."""
        model = DETR(recipe.detr_architecture)
        model.load_state_dict(weights)
        return model.eval()

    def detector(
        self,
        recipe: Recipe,
        model: DETR,
        categories: tuple[Category, ...],
        device: torch.device = CPU,
    ) -> Detector:
        """See the Protocol."""
        return Detector(
            predict=torch_predictor(model, device),
            policy=recipe.input,
            normalization=recipe.normalization,
            categories=categories,
        )

    def export(
        self, recipe: Recipe, model: DETR, out: Path, labelling: Labelling, *, overwrite: bool
    ) -> ExportedBundle:
        """See the Protocol."""
        if recipe.input.policy == "stretch":
            raise ConfigurationError("a DETR takes no stretched input.")
        description = Description(
            name=recipe.name,
            input=recipe.input,
            normalization=recipe.normalization,
            categories=labelling.categories,
            license=labelling.license,
            origin=labelling.origin,
        )
        return export_bundle(model, out, description, overwrite=overwrite)


def trained_family(recipe: Recipe) -> TrainedFamily:
    """Return the family of a recipe.

    Raises:
        ConfigurationError: its modules need transformers, which is not installed.
    """
    if recipe.family == "detr":
        return DetrFamily()
    # Whoever trains a DETR needs no transformers.
    from detr.training.d_fine_family import DFineFamily

    return DFineFamily()
