"""Recipes that distil a D-FINE: another backbone before the teacher's own transformer half."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from common.bundle import Normalization, StretchInput
from common.domain.errors import ConfigurationError
from detr.families import d_fine
from detr.families.loading import check_configuration
from detr.training.recipe import (
    CocoData,
    CosineSchedule,
    Distillation,
    Evaluation,
    FamilyTeacher,
    FromTeacher,
    Frozen,
    Optimiser,
    Recipe,
    ScenesData,
)

LOSSES = ("features", "truth")
"""What is added up: the levels' differences from the teacher's, and transformers' losses."""


class DFineSettings(Frozen):
    """How long and how strongly a student trains; see `Distillation` for the weights."""

    steps: int = Field(gt=0)
    optimiser: Optimiser = Optimiser()
    schedule: CosineSchedule = CosineSchedule()
    ema_decay: float = Field(0.0, ge=0, lt=1)
    early_share: float = Field(
        0.0, ge=0, lt=1, description="of the steps, at the data's `early_scale`; scenes only"
    )
    weights: dict[str, tuple[tuple[float, float], ...]]

    @model_validator(mode="after")
    def _weights_are_of_known_losses(self) -> DFineSettings:
        unknown = sorted(set(self.weights) - set(LOSSES))
        if unknown:
            raise ValueError(f"no loss is called {unknown[0]}; there are {', '.join(LOSSES)}")
        return self


class DFineDistillationRecipe(Frozen):
    """A student D-FINE and its data; the method is `joint`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    family: Literal["d_fine"]
    student: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of its bundle")
    teacher: Path | None = Field(None, description="unless the command names another")
    seed: int = Field(ge=0)
    backbone_config: dict[str, Any] = Field(
        description="the student's HGNetV2, as in `config.json`; levels and strides are the "
        "teacher's"
    )
    encoder_in_channels: tuple[int, ...] = Field(description="of the student's levels")
    input: StretchInput
    normalization: Normalization = Normalization()
    norm: Literal["batch", "frozen"]
    precision: Literal["fp32", "bf16"] = "fp32"
    data: Annotated[ScenesData | CocoData, Field(discriminator="kind")]
    batch_size: int = Field(gt=0)
    score_shift: float = Field(default=0.0, description="as in a training recipe")
    evaluation: Evaluation
    checkpoint_every_steps: int = Field(gt=0)
    joint: DFineSettings


def d_fine_run_recipe(
    recipe: DFineDistillationRecipe,
    teacher: FamilyTeacher,
    *,
    names: Mapping[int, str] | None = None,
    seed: int | None = None,
    steps: int | None = None,
) -> Recipe:
    """Return the recipe of one run, whose configuration is the student's.

    Args:
        recipe: the distillation recipe.
        teacher: the model whose transformer half the student gets.
        names: names of the rows of the teacher's class head. COCO files must have them.
        seed: replaces the recipe's.
        steps: replaces the recipe's; schedule and weights are stretched to it.

    Raises:
        ConfigurationError: the student's levels are not as many as the teacher's.
        WeightsError: Tandem does not honour a field of the student's backbone, or no model can be
            built with it.
    """
    levels = len(teacher.configuration["feat_strides"])
    if len(recipe.encoder_in_channels) != levels:
        raise ConfigurationError(
            f"recipe {recipe.name}: encoder_in_channels has {len(recipe.encoder_in_channels)} "
            f"numbers, but teacher {teacher.name} has {levels} levels."
        )
    steps = steps or recipe.joint.steps
    configuration = {
        **teacher.configuration,
        "backbone_config": recipe.backbone_config,
        "encoder_in_channels": list(recipe.encoder_in_channels),
    }
    source = f"recipe {recipe.name}"
    d_fine.FIELDS.checked(configuration, source)
    check_configuration(d_fine.NAME, "DFine", configuration, source)
    return Recipe(
        name=recipe.student,
        seed=recipe.seed if seed is None else seed,
        family=recipe.family,
        configuration=configuration,
        input=recipe.input,
        normalization=recipe.normalization,
        norm=recipe.norm,
        precision=recipe.precision,
        data=_data(recipe, steps, names or {}),
        start=FromTeacher(),
        batch_size=recipe.batch_size,
        steps=steps,
        optimiser=recipe.joint.optimiser,
        schedule=recipe.joint.schedule,
        ema_decay=recipe.joint.ema_decay,
        score_shift=recipe.score_shift,
        evaluation=recipe.evaluation,
        checkpoint_every_steps=recipe.checkpoint_every_steps,
        distillation=Distillation(method="joint", teacher=teacher, weights=recipe.joint.weights),
    )


def _data(
    recipe: DFineDistillationRecipe, steps: int, names: Mapping[int, str]
) -> ScenesData | CocoData:
    if isinstance(recipe.data, CocoData):
        return recipe.data.model_copy(update={"categories": recipe.data.categories or dict(names)})
    return recipe.data.model_copy(update={"early_steps": round(recipe.joint.early_share * steps)})
