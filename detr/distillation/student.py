"""The student: a smaller DETR with its teacher's transformer, and adapters that are thrown away.

The teacher's features are measured once before a run, so that differences from them are of order 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from detr.distillation.teacher import Teacher
from detr.importing import start_backbone
from detr.model import DETR, FrozenBatchNorm2d
from detr.model.backbone import resize_padding
from detr.training.batches import Batch
from detr.training.model import TrainingModel, TrainingOutput, start_residuals_at_zero
from detr.training.processes import mean_over_processes
from detr.training.recipe import FromTeacher, Recipe

STAGES = ("stage1", "stage2", "stage3", "stage4")
_STEM = ("backbone.0.body.conv1.", "backbone.0.body.bn1.")


@dataclass(frozen=True)
class Trace:
    """What a model computes between images and detections, up to where it was asked to stop.

    Attributes:
        stages: outputs of the first stages, C2 and on: [N,C,h,w] each.
        adapted: a student's stages at the teacher's width, standardised, by name.
        projected: [N,d,h,w], or None.
        output: detections, or None.
    """

    stages: tuple[Tensor, ...]
    adapted: dict[str, Tensor]
    projected: Tensor | None = None
    output: TrainingOutput | None = None


def trace(
    model: TrainingModel,
    images: Tensor,
    padding: Tensor,
    stages: int = 4,
    *,
    project: bool = True,
    interpret: bool = True,
) -> Trace:
    """Run a model up to a point.

    Args:
        model: teacher or student.
        images: [N,3,H,W].
        padding: [N,H,W] bool, true on padding.
        stages: how many stages of the backbone to run; all four are needed to project.
        project: compute the projected features.
        interpret: compute the detections; needs `project`.
    """
    outputs = model.detr.backbone.body.stages(images, stages)
    if not project:
        return Trace(outputs, {})
    projected = model.detr.input_proj(outputs[-1])
    if not interpret:
        return Trace(outputs, {}, projected)
    padding = resize_padding(padding, *projected.shape[-2:])
    pos = model.detr.backbone[1](padding)
    return Trace(outputs, {}, projected, model.interpret(projected, padding, pos))


class ChannelStatistics(nn.Module):
    """Mean and standard deviation of the teacher's channels; they scale differences to order 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        """Start as the identity."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise [N,C,h,w]."""
        return (features - self.mean[:, None, None]) / self.std[:, None, None]


class Student(TrainingModel):
    """A `TrainingModel` with a 1x1 adapter for each stage that mimics the teacher's."""

    def __init__(self, detr: DETR, teacher: Teacher, adapted: Sequence[str]) -> None:
        """Wrap the student; `adapted` names its stages that get an adapter."""
        parts = teacher.parts
        super().__init__(detr, parts.query_groups, parts.dense_head_weight > 0)
        own = _stage_channels(detr)
        wanted = _stage_channels(teacher.model.detr)
        hidden_dim = detr.architecture.hidden_dim
        self.adapters = nn.ModuleDict(
            {name: nn.Conv2d(own[name], wanted[name], kernel_size=1) for name in adapted}
        )
        levels = {**wanted, "projected": hidden_dim, "memory": hidden_dim}
        self.statistics = nn.ModuleDict(
            {name: ChannelStatistics(channels) for name, channels in levels.items()}
        )

    def forward(  # type: ignore[override]
        self,
        images: Tensor,
        padding: Tensor,
        stages: int = 4,
        *,
        project: bool = True,
        interpret: bool = True,
        adapt: Sequence[str] = (),
    ) -> Trace:
        """See `trace`; `adapt` names the stages whose adapters are to run."""
        run = trace(self, images, padding, stages, project=project, interpret=interpret)
        adapted = {name: self.adapters[name](run.stages[STAGES.index(name)]) for name in adapt}
        return Trace(run.stages, adapted, run.projected, run.output)

    @torch.no_grad()
    def fold_last_adapter(self, teacher: Teacher) -> None:
        """Let `input_proj` compute exactly what the teacher's makes of the adapted last stage.

        The adapter gives A c + a, which stands for (t - mean) / std; the teacher projects W t + b.
        So the student's is W std A, with bias W (std a + mean) + b.
        """
        adapter = cast(nn.Conv2d, self.adapters["stage4"])
        statistics = cast(ChannelStatistics, self.statistics["stage4"])
        projection = teacher.model.detr.input_proj
        weight = projection.weight.flatten(1)  # [d,teacher's channels]
        scale = statistics.std[:, None] * adapter.weight.flatten(1)
        own = self.detr.input_proj
        own.weight.copy_((weight @ scale)[..., None, None])
        shift = statistics.std * cast(Tensor, adapter.bias) + statistics.mean
        cast(Tensor, own.bias).copy_(weight @ shift + cast(Tensor, projection.bias))


def build_student(recipe: Recipe, teacher: Teacher, adapted: Sequence[str]) -> Student:
    """Make the student with the teacher's transformer, heads and queries.

    A backbone of the teacher's kind is copied. Another gets the teacher's stem, which has the
    same shape, and blocks that start as shortcuts; or the pretrained weights that the recipe names.

    Raises:
        WeightsError: the pretrained weights cannot be read, or do not fit.
    """
    norm = nn.BatchNorm2d if recipe.norm == "batch" else FrozenBatchNorm2d
    detr = DETR(recipe.detr_architecture, norm=norm, dropout=recipe.dropout)
    student = Student(detr, teacher, adapted)
    if recipe.norm == "batch":
        start_residuals_at_zero(detr)
    _copy_what_fits(student, teacher)
    if isinstance(recipe.start, FromTeacher) and recipe.start.backbone_file is not None:
        start_backbone(detr.backbone.body, recipe.start.backbone_file)
    return student


def kept_layers(of: int, count: int) -> tuple[int, ...]:
    """Return which of the teacher's `of` layers the student's `count` imitate: evenly spaced."""
    return tuple((index + 1) * of // count - 1 for index in range(count))


@torch.no_grad()
def _copy_what_fits(student: Student, teacher: Teacher) -> None:
    same_backbone = student.detr.architecture.backbone == teacher.identity.architecture.backbone
    target = student.state_dict()
    for name, value in _renumbered(student, teacher).items():
        own = name.startswith(("detr.backbone.", "detr.input_proj."))
        stem = name.removeprefix("detr.").startswith(_STEM)
        if not own or stem or same_backbone:
            target[name].copy_(value)


def _renumbered(student: Student, teacher: Teacher) -> dict[str, Tensor]:
    """Return the teacher's state with only the encoder layers that the student imitates."""
    state = teacher.model.state_dict()
    prefix = "detr.transformer.encoder.layers."
    kept = kept_layers(
        teacher.identity.architecture.encoder_layers, student.detr.architecture.encoder_layers
    )
    renamed = {name: value for name, value in state.items() if not name.startswith(prefix)}
    for new, old in enumerate(kept):
        for name, value in state.items():
            if name.startswith(f"{prefix}{old}."):
                renamed[f"{prefix}{new}.{name.removeprefix(f'{prefix}{old}.')}"] = value
    return renamed


def _stage_channels(detr: DETR) -> dict[str, int]:
    last = detr.backbone.body.num_channels
    return {name: last // 2 ** (3 - index) for index, name in enumerate(STAGES)}


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
    """Return count, sum and sum of squares [3,C] over the cells without padding."""
    valid = (~resize_padding(padding, *features.shape[-2:]))[:, None].to(torch.float64)
    values = features.to(torch.float64)
    sums = [(values**power * valid).sum(dim=(0, 2, 3)) for power in (0, 1, 2)]
    return torch.stack(sums)
