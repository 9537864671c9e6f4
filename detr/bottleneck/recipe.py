"""Recipes of bottlenecks: a frozen model, its data, and how its bottleneck is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from common.bundle import DetrInput, Normalization
from common.domain.codec import LATENT_CODECS
from detr.training.recipe import (
    CocoData,
    CosineSchedule,
    Evaluation,
    FromWeights,
    Frozen,
    Optimiser,
    Recipe,
    ScenesData,
    TeacherIdentity,
    load_recipe_file,
)


class Sizes(Frozen):
    """Channels; what the model's cut has follows from the model."""

    channels: int = Field(default=32, gt=0, le=1024, description="of the latents")
    encoder_width: int = Field(default=96, gt=0)
    decoder_width: int = Field(default=128, gt=0)


class Pairs(Frozen):
    """How the frame before a picture is made, by which training learns what need not be sent again.

    It is the same picture, moved as by a panning camera. Some pictures get a sensor's noise, which
    differs from frame to frame.
    """

    largest_shift_pixels: float = Field(ge=0, description="of the network's input, either way")
    still_share: float = Field(ge=0, le=1, description="of the pictures that do not move")
    largest_noise_levels: float = Field(ge=0, description="standard deviation, in grey levels")
    noisy_share: float = Field(ge=0, le=1, description="of the pictures that get noise")


class Weights(Frozen):
    """What the losses count for. All but the rate are weighted for features of deviation 1."""

    rate: float = Field(gt=0, description="of a bit a cell, at the usual step")
    temporal_rate: float = Field(
        default=0.0, ge=0, description="the same, of a frame that is coded given the one before"
    )
    features: float = Field(default=1.0, ge=0, description="of the features' mean squared error")
    memory: float = Field(default=4.0, ge=0, description="of the encoder's output's")
    outputs: float = Field(default=1.0, ge=0, description="of what all decoder layers say")


class Rate(Frozen):
    """One of the rates that a bundle gets, in usual steps."""

    step: float = Field(gt=0, le=100, description="from level to level")
    keep_within: float = Field(
        default=0.0, ge=0, le=100, description="see `common.bundle.LatentRate`"
    )


class BottleneckRecipe(Frozen):
    """One bottleneck for one model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    teacher: Path | None = Field(
        default=None, description="the model, unless the command names another"
    )
    seed: int = Field(ge=0)
    input: DetrInput
    normalization: Normalization = Normalization()
    data: Annotated[ScenesData | CocoData, Field(discriminator="kind")]
    cached_samples: int = Field(
        0,
        ge=0,
        description="train on so many samples, whose features are computed once and kept; 0: "
        "compute the features of new samples in every step",
    )
    pairs: Pairs | None = Field(
        default=None, description="needed for `weights.temporal_rate`, and used for nothing else"
    )
    sizes: Sizes = Sizes()
    weights: Weights
    steps_range: tuple[float, float] = Field(
        (0.7, 3.0), description="smallest and largest quantisation step that is trained for"
    )
    rates: dict[str, Rate] = Field(description="codec -> its rate, for what ships")
    tuned_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps, at the end, in which the transformer is trained as well",
    )
    no_object_shift: float = Field(
        default=0.0, description="as in a training recipe; of a transformer that was tuned"
    )
    tuned_factor: float = Field(
        default=0.1, gt=0, description="of the learning rate, for the transformer"
    )
    batch_size: int = Field(default=32, gt=0)
    steps: int = Field(gt=0)
    optimiser: Optimiser
    schedule: CosineSchedule
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    evaluation: Evaluation
    checkpoint_every_steps: int = Field(gt=0)

    @model_validator(mode="after")
    def _range_and_rates_are_complete(self) -> Self:
        low, high = self.steps_range
        if not 0 < low <= high:
            raise ValueError("steps_range has to begin above 0 and not to fall")
        if (self.pairs is None) != (self.weights.temporal_rate == 0):
            raise ValueError(
                "pairs and weights.temporal_rate need each other: give both or neither"
            )
        latent = [codec.value for codec in LATENT_CODECS]
        if set(self.rates) != set(latent):
            raise ValueError(f"rates has to have the keys {', '.join(latent)}")
        return self

    def tunes_at(self, step: int) -> bool:
        """Whether the transformer is trained in this step (from 0)."""
        return step >= round((1 - self.tuned_share) * self.steps)

    def training_recipe(self, teacher: TeacherIdentity) -> Recipe:
        """Return the recipe whose data are this one's; only its data are used."""
        return Recipe(
            name=self.name,
            seed=self.seed,
            architecture=teacher.architecture,
            input=self.input,
            normalization=self.normalization,
            data=self.data,
            start=FromWeights(),
            batch_size=self.batch_size,
            steps=self.steps,
            schedule=self.schedule,
            evaluation=self.evaluation,
            checkpoint_every_steps=self.checkpoint_every_steps,
            precision="fp32",
            ema_decay=self.ema_decay,
            no_object_shift=0.0,
        )


def load_bottleneck_recipe(name_or_file: str) -> BottleneckRecipe:
    """Load a recipe by name or by path; errors as `load_recipe_file`."""
    return load_recipe_file(BottleneckRecipe, "detr.bottleneck", name_or_file)
