"""What a run consists of between two steps, and how it is saved and restored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from common.domain.errors import ConfigurationError
from detr.importing import start_from
from detr.model import DETR, FrozenBatchNorm2d
from detr.model.resnet import BLOCKS
from detr.training.checkpoints import (
    WEIGHTS_NAME,
    load_checkpoint,
    read_record,
    save_average,
    save_checkpoint,
)
from detr.training.model import QUERY_NOISE, TrainingModel, initialise_from_scratch
from detr.training.optimisation import WeightAverage, new_optimiser, new_scaler, recipe_factor
from detr.training.processes import CPU
from detr.training.recipe import FromRecord, FromScratch, FromWeights, Recipe, ScenesData

# Numbers in a register of AVX-512, the widest there is; with AVX2 8 would do.
_LEAST_SHORTCUT_CHANNELS = 16

# A resumed run may change how often it reports and how long it goes on, never what it has done.
_FREE_KEYS: dict[str, Any] = {
    "evaluation": True,
    "no_object_shift": True,  # changes what is released, not what is trained
    "score_shift": True,  # likewise
    "checkpoint_every_steps": True,
    "steps": True,
    "schedule": True,  # its past is compared apart
    "data": {"early_steps", "categories"},
}


@dataclass
class TrainingState:
    """A training run between two steps.

    Attributes:
        model: the model; average and optimiser are on its device.
        average: the average of its weights.
        optimiser: what changes its weights.
        scaler: scales the loss, so that fp16's gradients do not vanish; else does nothing.
        step: how many steps are done.
        seconds: how long training took so far, without pauses between resumed runs.
        share: the share of the schedule that is done, for a run that ends by time; None for one
            that ends by steps. See `detr.training.schedule.TimeBudget`.
    """

    model: nn.Module
    average: WeightAverage
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler = field(default_factory=lambda: new_scaler(None, CPU))
    step: int = 0
    seconds: float = 0.0
    share: float | None = None

    @property
    def device(self) -> torch.device:
        """The device that the run computes on."""
        return next(self.model.parameters()).device

    def schedule_step(self, recipe: Recipe) -> float:
        """Return where on the recipe's schedule the next step lies, in the recipe's steps."""
        return self.step if self.share is None else self.share * recipe.steps


Builder = Callable[[Recipe], nn.Module]
"""Makes the model that a run starts with; what it does not train, it has frozen."""


def build_model(recipe: Recipe, say: Callable[[str], None] = lambda _: None) -> TrainingModel:
    """Build a model that learns without a teacher.

    Args:
        recipe: of the run.
        say: called with what of the recipe's weights file was not used.

    Raises:
        WeightsError: the recipe's weights file cannot be read, or does not fit.
    """
    norm = nn.BatchNorm2d if recipe.norm == "batch" else FrozenBatchNorm2d
    detr = DETR(recipe.detr_architecture, norm=norm, dropout=recipe.dropout)
    parts = recipe.parts
    model = TrainingModel(detr, parts.query_groups, parts.dense_head_weight > 0)
    if isinstance(recipe.start, FromScratch):
        if recipe.start.query_grid is not None:
            initialise_from_scratch(model, recipe.start.query_grid)
    elif isinstance(recipe.start, FromWeights) and recipe.start.file is not None:
        for remark in start_from(detr, recipe.start.file):
            say(remark)
    elif isinstance(recipe.start, FromRecord) and recipe.start.folder is not None:
        _start_from_record(model, recipe.start.folder)
    return model


@torch.no_grad()
def _start_from_record(model: TrainingModel, folder: Path) -> None:
    """Load a released run's weights, undoing the shift of 'no object' that releases get.

    The further groups of queries did not ship: they start near the model's own.
    """
    written = read_record(folder)
    start_from(model.detr, folder / WEIGHTS_NAME)
    model.detr.class_embed.bias[-1] -= written["recipe"]["no_object_shift"]
    own = model.detr.query_embed.weight
    near = own.repeat(model.groups - 1, 1)
    model.extra_queries.copy_(near + QUERY_NOISE * own.std() * torch.randn_like(near))


def new_state(
    recipe: Recipe, build: Builder = build_model, device: torch.device = CPU
) -> TrainingState:
    """Build the model and everything around it, seeded; errors as those of `build`.

    The starting values come from the CPU's generator, so they are the same on every device.

    Raises:
        ConfigurationError: the recipe's precision is not one of this device.
    """
    if recipe.precision == "fp16" and device.type == "cpu":
        raise ConfigurationError("fp16 trains on a GPU only; a CPU takes fp32 or bf16.")
    torch.manual_seed(recipe.seed)
    model = build(recipe)
    model.to(device, memory_format=memory_format(recipe, device))  # type: ignore[call-overload]
    return TrainingState(
        model,
        WeightAverage(model, recipe.ema_decay),
        new_optimiser(recipe, model),
        new_scaler(recipe, device),
    )


def memory_format(recipe: Recipe, device: torch.device = CPU) -> torch.memory_format:
    """Return the layout of images and kernels that trains fastest.

    Channels last, except on a CPU where the first shortcut that takes a stride sees fewer channels
    than a vector register holds numbers: there oneDNN writes past its buffers. See
    docs/decisions/0016-narrow-backbones.md.
    """
    if device.type != "cpu" or recipe.architecture is None:
        return torch.channels_last
    block, _ = BLOCKS[recipe.architecture.backbone]
    if recipe.architecture.base_width * block.expansion < _LEAST_SHORTCUT_CHANNELS:
        return torch.contiguous_format
    return torch.channels_last


def save_state(state: TrainingState, recipe: Recipe, folder: Path) -> Path:
    """Write a checkpoint of the whole run, which any device can go on from."""
    released = _released_content(state, recipe)
    content = {
        **released,
        "share": state.share,
        "model": state.model.state_dict(),
        "average_updates": state.average.updates,
        "optimiser": state.optimiser.state_dict(),
        "scaler": state.scaler.state_dict(),
    }
    return save_checkpoint(folder, content)


def save_best(state: TrainingState, recipe: Recipe, path: Path) -> None:
    """Write only the averaged weights, which a release needs: a quarter of a checkpoint's size."""
    save_average(path, _released_content(state, recipe))


def _released_content(state: TrainingState, recipe: Recipe) -> dict[str, Any]:
    return {
        "step": state.step,
        "seconds": state.seconds,
        "recipe": recipe.model_dump_json(),
        "average": state.average.state,
    }


def restore_state(
    path: Path, recipe: Recipe, build: Builder = build_model, device: torch.device = CPU
) -> TrainingState:
    """Return the run as it was saved, on this device, whatever device it was saved on.

    Raises:
        ConfigurationError: there is no checkpoint, or it belongs to another recipe.
    """
    content = load_checkpoint(path)
    saved = recipe_of(content, path)
    if not _same_past(saved, recipe, content["step"]):
        raise ConfigurationError(
            f"{path} was written by a different recipe {saved.name}: give another --output, "
            "or remove the old run."
        )
    state = new_state(_without_start_files(recipe), build, device)
    try:
        state.model.load_state_dict(content["model"])
        state.average.state = {name: value.to(device) for name, value in content["average"].items()}
        state.average.updates = content["average_updates"]
        state.optimiser.load_state_dict(content["optimiser"])
        state.step = content["step"]
        state.seconds = content["seconds"]
        state.share = content.get("share")
        if state.scaler.is_enabled() and content.get("scaler"):
            state.scaler.load_state_dict(content["scaler"])
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} is not a whole checkpoint of recipe {recipe.name}: {first_line(error)}."
        ) from error
    return state


def _without_start_files(recipe: Recipe) -> Recipe:
    """Drop the files that a run started from: a resumed run does not need them."""
    if isinstance(recipe.start, FromScratch):
        return recipe
    return recipe.model_copy(update={"start": type(recipe.start)()})


def recipe_of(content: dict[str, Any], path: Path) -> Recipe:
    """Return the recipe that a checkpoint was made by.

    Raises:
        ConfigurationError: it holds no recipe, or one that this version cannot read.
    """
    try:
        return Recipe.model_validate_json(content["recipe"])
    except (KeyError, ValidationError) as error:
        raise ConfigurationError(f"{path} holds no recipe that this version knows.") from error


def first_line(error: Exception) -> str:
    """Return an error's first line, without the lists that torch adds."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(":.")


def plain_model(recipe: Recipe, average: dict[str, Tensor]) -> DETR:
    """Return the averaged weights as the plain model that ships: fixed norms, first group only.

    Args:
        recipe: gives the architecture and the shift of 'no object'.
        average: the state of `WeightAverage`, or `average` of a checkpoint.
    """
    model = DETR(recipe.detr_architecture)
    prefix = "detr."
    model.load_state_dict(
        {
            name.removeprefix(prefix): value
            for name, value in average.items()
            if name.startswith(prefix)
        }
    )
    with torch.no_grad():
        model.class_embed.bias[-1] += recipe.no_object_shift
    return model.eval()


def _same_past(saved: Recipe, recipe: Recipe, step: int) -> bool:
    """Tell whether both recipes lead to the same weights at `step`."""
    if _past_sizes(saved, step) != _past_sizes(recipe, step):
        return False
    if saved.model_dump(exclude=_FREE_KEYS) != recipe.model_dump(exclude=_FREE_KEYS):
        return False
    return all(
        math.isclose(
            recipe_factor(saved, past),
            recipe_factor(recipe, past),
            rel_tol=1e-6,
        )
        for past in range(step)
    )


def _past_sizes(recipe: Recipe, step: int) -> int:
    """Return how many of the steps before `step` had the early size."""
    return min(step, recipe.data.early_steps) if isinstance(recipe.data, ScenesData) else 0
