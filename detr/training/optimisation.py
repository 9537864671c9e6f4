"""How the weights change: optimiser, learning rate, and the average over the steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from detr.training.recipe import FlatSchedule, PiecewiseSchedule, Recipe, Schedule, StepSchedule

BACKBONES = ("detr.backbone.", "d_fine.model.backbone.")
"""How the names of a backbone's weights begin, in the families that are trained."""


@dataclass(frozen=True)
class Phase:
    """A part of a run in which the same weights are trained.

    Attributes:
        index: number of the phase, from 0.
        first_step: number of its first step, from 0.
        steps: how many steps it has.
    """

    index: int
    first_step: int
    steps: int


@dataclass(frozen=True)
class TimeBudget:
    """Stretches a recipe's schedule over a time, however many steps fit into it.

    A run's place on its schedule is then the share of the time that has passed, so it does not
    have to be known how fast the machine is, and a machine that slows down on the way is met by a
    rate that falls as it should.

    Attributes:
        seconds: how long the rest of the schedule takes.
        started: when the time began, by `time.monotonic`.
        first_share: share of the schedule that was done before a resumed run went on.
    """

    seconds: float
    started: float
    first_share: float = 0.0

    def share(self) -> float:
        """Return the share of the schedule that has passed, 1 at its end."""
        passed = (time.monotonic() - self.started) / self.seconds
        return min(1.0, self.first_share + (1 - self.first_share) * passed)


def phase_at(recipe: Recipe, step: float) -> Phase:
    """Return the phase that `step` (from 0) lies in; training without a teacher has one only."""
    if recipe.distillation is None:
        return Phase(0, 0, recipe.steps)
    shares = np.cumsum(recipe.distillation.phase_shares)
    ends = [round(end * recipe.steps) for end in shares / shares[-1]]
    index = min(sum(end <= step for end in ends), len(ends) - 1)
    first = ends[index - 1] if index else 0
    return Phase(index, first, ends[index] - first)


def recipe_factor(recipe: Recipe, step: float) -> float:
    """Return what the learning rate is multiplied by; the schedule begins anew in each phase."""
    phase = phase_at(recipe, step)
    return learning_rate_factor(recipe.schedule, step - phase.first_step, phase.steps)


def learning_rate_factor(schedule: Schedule, step: float, steps: int) -> float:
    """Return what the learning rate is multiplied by at `step` (from 0) of `steps`."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if isinstance(schedule, StepSchedule):
        return schedule.drop_factor if step >= schedule.drop_at else 1.0
    if isinstance(schedule, PiecewiseSchedule):
        steps_of_points = [point for point, _ in schedule.points]
        return float(np.interp(step, steps_of_points, [factor for _, factor in schedule.points]))
    if isinstance(schedule, FlatSchedule):
        height = min(1.0, (steps - step) / schedule.decay_steps)
    else:
        progress = (step - schedule.warmup_steps) / max(1, steps - schedule.warmup_steps)
        height = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return schedule.final_share + (1 - schedule.final_share) * height


class WeightAverage:
    """The average of a model's floating-point state; it is what gets evaluated and exported."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start at the model's present state; a `decay` of 0 follows the model exactly."""
        self.decay = decay
        self.updates = 0
        self.state: dict[str, Tensor] = {}
        self.restart(model)

    def restart(self, model: nn.Module) -> None:
        """Begin anew at the model's present state."""
        self.updates = 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model; faster in the first steps, which soon count for nothing."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, values = [], []
        counters, counts = [], []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.state[name])
                values.append(value)
            else:
                counters.append(self.state[name])
                counts.append(value)
        if counters:
            torch._foreach_copy_(counters, counts)
        torch._foreach_lerp_(averages, values, 1 - decay if self.decay else 1.0)


def new_optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW in four groups: backbone or not, with or without weight decay."""
    settings = recipe.optimiser
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in _trainable(model):
        key = (name.startswith(BACKBONES), _decays(name, parameter))
        groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr_factor": settings.backbone_factor if backbone else 1.0,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (backbone, decays), parameters in groups.items()
        ],
        lr=settings.learning_rate,
        fused=True,
    )


def new_scaler(recipe: Recipe | None, device: torch.device) -> torch.amp.GradScaler:
    """Return what scales the loss of fp16, and does nothing for other precisions."""
    enabled = recipe is not None and recipe.precision == "fp16"
    return torch.amp.GradScaler(device.type, enabled=enabled)


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((n, p) for n, p in model.named_parameters() if p.requires_grad and p.numel() > 0)


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Norms, biases and queries do not decay."""
    return parameter.dim() > 1 and "quer" not in name
