"""Learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from detr.training.recipe import FlatSchedule, PiecewiseSchedule, Recipe, Schedule, StepSchedule


@dataclass(frozen=True)
class Phase:
    """A part of a run in which the same weights are trained.

    Attributes:
        index: counted from 0.
        first_step: counted from 0.
        steps: how many.
    """

    index: int
    first_step: int
    steps: int


def phase_at(recipe: Recipe, step: int) -> Phase:
    """Return the phase that `step` (from 0) lies in; training without a teacher has one only."""
    if recipe.distillation is None:
        return Phase(0, 0, recipe.steps)
    shares = np.cumsum(recipe.distillation.phase_shares)
    ends = [round(end * recipe.steps) for end in shares / shares[-1]]
    index = min(sum(end <= step for end in ends), len(ends) - 1)
    first = ends[index - 1] if index else 0
    return Phase(index, first, ends[index] - first)


def recipe_factor(recipe: Recipe, step: int) -> float:
    """Return what the learning rate is multiplied by; the schedule begins anew in each phase."""
    phase = phase_at(recipe, step)
    return learning_rate_factor(recipe.schedule, step - phase.first_step, phase.steps)


def learning_rate_factor(schedule: Schedule, step: int, steps: int) -> float:
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
