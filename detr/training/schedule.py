"""Learning rate as a function of the step."""

from __future__ import annotations

import math

import numpy as np

from detr.training.recipe import FlatSchedule, PiecewiseSchedule, Schedule, StepSchedule


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
