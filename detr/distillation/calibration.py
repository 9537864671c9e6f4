"""Statistics of the teacher's features, measured once before a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from detr.distillation.student import STAGES, ChannelStatistics, Student, Trace, trace
from detr.distillation.teacher import Teacher
from detr.model.backbone import resize_padding
from detr.training.distributed import mean_over_processes
from detr.training.targets import Batch

STD_FLOOR = 0.03
"""Of the mean deviation of a level's channels: dead channels are not blown up."""


@torch.no_grad()
def measure_statistics(student: Student, teacher: Teacher, batches: Iterable[Batch]) -> None:
    """Set the student's statistics to those of the teacher's features, over all processes."""
    sums: dict[str, Tensor] = {}
    for batch in batches:
        levels = teacher_levels(trace(teacher.model, batch.images, batch.padding))
        for name, features in levels.items():
            sums[name] = sums.get(name, torch.zeros(())) + _sums(features, batch.padding)
    for name, total in sums.items():
        count, first, second = mean_over_processes(total)
        mean = first / count
        std = (second / count - mean.square()).clamp(min=0).sqrt()
        statistics = cast(ChannelStatistics, student.statistics[name])
        statistics.mean.copy_(mean)
        statistics.std.copy_(std.clamp(min=STD_FLOOR * float(std.mean())))


def teacher_levels(run: Trace) -> dict[str, Tensor]:
    """Return by name all features of a trace that a student can be asked to mimic."""
    levels = dict(zip(STAGES, run.stages, strict=False))
    if run.projected is not None:
        levels["projected"] = run.projected
    if run.output is not None:
        levels["memory"] = run.output.detr.memory
    return levels


def _sums(features: Tensor, padding: Tensor) -> Tensor:
    """Count, sum and sum of squares [3,C] over the cells without padding."""
    valid = (~resize_padding(padding, *features.shape[-2:]))[:, None].to(torch.float64)
    values = features.to(torch.float64)
    sums = [(values**power * valid).sum(dim=(0, 2, 3)) for power in (0, 1, 2)]
    return torch.stack(sums)
