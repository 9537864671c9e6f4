"""Distillation recipes: one file for all methods, from which a run's own recipe is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from common.bundle import Architecture, DetrInput, Normalization
from common.domain.errors import ConfigurationError
from detr.distillation.d_fine_recipe import DFineDistillationRecipe
from detr.training.recipe import (
    CocoData,
    CosineSchedule,
    Distillation,
    Evaluation,
    FromTeacher,
    Frozen,
    Optimiser,
    Recipe,
    ScenesData,
    TeacherIdentity,
    TrainingParts,
    read_recipe_file,
    validated,
)

DETR_FAMILY = "detr"
Method = Literal["stages", "joint", "encoder"]

STAGE_PHASES = 5
"""Of the method `stages`: the four stages, then `input_proj`."""

LOSSES = ("truth", "outputs", "projected", "memory", "stage1", "stage2", "stage3", "stage4")
"""What the methods `joint` and `encoder` add up."""


class MethodSettings(Frozen):
    """How long and how strongly a method trains; see `Distillation` for the last three."""

    steps: int = Field(gt=0)
    optimiser: Optimiser = Optimiser()
    schedule: CosineSchedule = CosineSchedule()
    ema_decay: float = Field(0.0, ge=0, lt=1)
    early_share: float = Field(
        0.0, ge=0, lt=1, description="of the steps, at the data's `early_scale`; scenes only"
    )
    phase_shares: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    fit_batches: int = Field(default=0, ge=0)
    weights: dict[str, tuple[tuple[float, float], ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _weights_are_of_known_losses(self) -> Self:
        unknown = sorted(set(self.weights) - set(LOSSES))
        if unknown:
            raise ValueError(f"no loss is called {unknown[0]}; there are {', '.join(LOSSES)}")
        return self


class DistillationRecipe(Frozen):
    """A student, its data, and the settings of every method."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    family: Literal["detr"] = "detr"
    student: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of its bundle")
    teacher: Path | None = Field(None, description="unless the command names another")
    seed: int = Field(ge=0)
    backbone: Literal["resnet18", "resnet34", "resnet50"]
    input: DetrInput
    normalization: Normalization = Normalization()
    norm: Literal["batch", "frozen"]
    precision: Literal["fp32", "bf16"] = "fp32"
    data: Annotated[ScenesData | CocoData, Field(discriminator="kind")]
    start: FromTeacher = FromTeacher()
    batch_size: int = Field(gt=0)
    no_object_shift: float = Field(0.0, description="as in a training recipe")
    evaluation: Evaluation
    checkpoint_every_steps: int = Field(gt=0)
    stages: MethodSettings
    joint: MethodSettings
    encoder: MethodSettings

    @model_validator(mode="after")
    def _phases_are_those_of_the_method(self) -> Self:
        if len(self.stages.phase_shares) != STAGE_PHASES:
            raise ValueError(f"the method stages has {STAGE_PHASES} phases")
        if len(self.joint.phase_shares) != 1 or len(self.encoder.phase_shares) != 1:
            raise ValueError("the methods joint and encoder have one phase")
        return self

    def settings(self, method: Method) -> MethodSettings:
        """Return a method's settings."""
        return {"stages": self.stages, "joint": self.joint, "encoder": self.encoder}[method]


def run_recipe(
    recipe: DistillationRecipe,
    method: Method,
    teacher: TeacherIdentity,
    parts: TrainingParts,
    *,
    names: Mapping[int, str] | None = None,
    encoder_layers: int | None = None,
    seed: int | None = None,
    steps: int | None = None,
) -> Recipe:
    """Return the recipe of one run, whose architecture is the student's.

    Args:
        recipe: the distillation recipe.
        method: one of the recipe's methods.
        teacher: the model whose transformer the student gets.
        parts: the teacher's training parts, which help the student too.
        names: names of the rows of the teacher's class head. COCO files must have them.
        encoder_layers: how many the student has, for the method `encoder`.
        seed: replaces the recipe's.
        steps: replaces the method's; schedule, weights and phases are stretched to it.

    Raises:
        ConfigurationError: teacher and data have different classes, or the encoder would not
            get shorter.
    """
    settings = recipe.settings(method)
    steps = steps or settings.steps
    return Recipe(
        name=recipe.student if encoder_layers is None else f"{teacher.name}-e{encoder_layers}",
        seed=recipe.seed if seed is None else seed,
        architecture=_student(recipe, teacher, encoder_layers),
        input=recipe.input,
        normalization=recipe.normalization,
        norm="frozen" if method == "encoder" else recipe.norm,
        precision=recipe.precision,
        data=_data(recipe, settings, steps, names or {}),
        parts=parts,
        start=recipe.start,
        batch_size=recipe.batch_size,
        steps=steps,
        optimiser=settings.optimiser,
        schedule=settings.schedule,
        ema_decay=settings.ema_decay,
        no_object_shift=recipe.no_object_shift,
        evaluation=recipe.evaluation,
        checkpoint_every_steps=recipe.checkpoint_every_steps,
        distillation=Distillation(
            method=method,
            teacher=teacher,
            phase_shares=settings.phase_shares,
            fit_batches=settings.fit_batches,
            weights=settings.weights,
        ),
    )


def load_distillation_recipe(name_or_file: str) -> DistillationRecipe | DFineDistillationRecipe:
    """Load a distillation recipe by name or by path; errors as `load_recipe_file`."""
    content = read_recipe_file("detr.distillation", name_or_file)
    if isinstance(content, dict) and content.get("family", DETR_FAMILY) != DETR_FAMILY:
        return validated(DFineDistillationRecipe, content, name_or_file)
    return validated(DistillationRecipe, content, name_or_file)


def _student(
    recipe: DistillationRecipe, teacher: TeacherIdentity, encoder_layers: int | None
) -> Architecture:
    architecture = teacher.architecture
    if encoder_layers is None:
        return architecture.model_copy(update={"backbone": recipe.backbone})
    if not 1 <= encoder_layers < architecture.encoder_layers:
        raise ConfigurationError(
            f"teacher {teacher.name} has {architecture.encoder_layers} encoder layers: a student "
            f"has fewer, not {encoder_layers}."
        )
    return architecture.model_copy(update={"encoder_layers": encoder_layers})


def _data(
    recipe: DistillationRecipe, settings: MethodSettings, steps: int, names: Mapping[int, str]
) -> ScenesData | CocoData:
    if isinstance(recipe.data, CocoData):
        return recipe.data.model_copy(update={"categories": recipe.data.categories or dict(names)})
    return recipe.data.model_copy(update={"early_steps": round(settings.early_share * steps)})
