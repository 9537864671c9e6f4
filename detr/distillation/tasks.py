"""The three methods, as tasks of the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detr.distillation.fitting import fit_backbone
from detr.distillation.losses import feature_loss, output_loss
from detr.distillation.student import (
    STAGES,
    Student,
    Trace,
    build_student,
    measure_statistics,
    teacher_levels,
    trace,
)
from detr.distillation.teacher import Teacher
from detr.model.backbone import resize_padding
from detr.training.batches import Batch
from detr.training.optimisation import Phase, phase_at
from detr.training.processes import full_precision
from detr.training.recipe import Recipe
from detr.training.state import memory_format
from detr.training.task import WEIGHTS, mixed_precision, truth_losses

STATISTICS_BATCHES = 8

Batches = Callable[[int], Iterable[Batch]]
"""Yields that many batches, which are looked at before the first step."""


class DistillationTask(ABC):
    """What the methods share: the teacher, and a student of which some modules are trained."""

    def __init__(self, recipe: Recipe, teacher: Teacher, first_batches: Batches) -> None:
        teacher.model.to(memory_format=memory_format(recipe))  # type: ignore[call-overload]
        self.teacher = teacher
        self._first_batches = first_batches

    def begin_phase(self, recipe: Recipe, model: nn.Module, phase: Phase, anew: bool) -> None:
        """See `Task`; before the first step the teacher's statistics are measured."""
        student = cast(Student, model)
        device = student.query_mask.device
        self.teacher.model.to(device, memory_format=memory_format(recipe, device))  # type: ignore[call-overload]
        if anew and phase.index == 0:
            first = (batch.to(device) for batch in self._first_batches(STATISTICS_BATCHES))
            measure_statistics(student, self.teacher, first)
            if recipe.distillation is not None and recipe.distillation.fit_batches:
                wanted = self._first_batches(recipe.distillation.fit_batches)
                with full_precision():
                    fit_backbone(student, self.teacher, (batch.to(device) for batch in wanted))
        student.requires_grad_(False)
        for module in self.trained(student, phase.index):
            module.requires_grad_(True)

    def train_mode(self, model: nn.Module, phase: Phase) -> None:
        """See `Task`: the running statistics of frozen norms stay as they are."""
        model.eval()
        for module in self.trained(cast(Student, model), phase.index):
            module.train()

    @property
    @abstractmethod
    def loss_names(self) -> tuple[str, ...]:
        """See `Task`."""

    @abstractmethod
    def build(self, recipe: Recipe) -> nn.Module:
        """See `Task`; errors as `build_student`."""

    @abstractmethod
    def losses(self, recipe: Recipe, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """See `Task`."""

    @abstractmethod
    def trained(self, student: Student, phase: int) -> Sequence[nn.Module]:
        """Return the modules that are trained in a phase."""

    def _build(self, recipe: Recipe, adapted: Sequence[str], phases: int) -> Student:
        """Make a student; only what some phase trains is not frozen."""
        student = build_student(recipe, self.teacher, adapted)
        student.requires_grad_(False)
        for phase in range(phases):
            for module in self.trained(student, phase):
                module.requires_grad_(True)
        return student

    @torch.no_grad()
    def _taught(self, recipe: Recipe, batch: Batch, run: Trace) -> Trace:
        """Run the teacher as far as the student went."""
        with mixed_precision(recipe, batch.images.device):
            return trace(
                self.teacher.model,
                _images(recipe, batch),
                batch.padding,
                len(run.stages),
                project=run.projected is not None,
                interpret=run.output is not None,
            )


class StagewiseTask(DistillationTask):
    """Stage by stage (Gao et al., 2018, arXiv 1812.01819; the SSKD of the project's origin).

    In phase k of four, stage k of the student learns to give the teacher's stage k through its
    adapter, while the stages before it are frozen. Then the last adapter is folded into
    `input_proj`, which is trained by itself to give the teacher's projected features.
    """

    @property
    def loss_names(self) -> tuple[str, ...]:
        """See `Task`; each stage has a loss in its own phase."""
        return ("loss", *STAGES, "projected")

    def build(self, recipe: Recipe) -> nn.Module:
        """See `Task`; errors as `build_student`."""
        return self._build(recipe, STAGES, phases=len(STAGES) + 1)

    def begin_phase(self, recipe: Recipe, model: nn.Module, phase: Phase, anew: bool) -> None:
        """See `Task`."""
        super().begin_phase(recipe, model, phase, anew)
        if anew and phase.index == len(STAGES):
            cast(Student, model).fold_last_adapter(self.teacher)

    def trained(self, student: Student, phase: int) -> Sequence[nn.Module]:
        """Return a stage with its adapter, the first with the stem; at last `input_proj`."""
        if phase == len(STAGES):
            return [student.detr.input_proj]
        body = student.detr.backbone.body
        stage = [body.layer1, body.layer2, body.layer3, body.layer4][phase]
        stem = [body.conv1, body.bn1] if phase == 0 else []
        return [*stem, stage, student.adapters[STAGES[phase]]]

    def losses(self, recipe: Recipe, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """See `Task`."""
        index = phase_at(recipe, step).index
        last = index == len(STAGES)
        names = () if last else (STAGES[index],)
        with mixed_precision(recipe, batch.images.device):
            run: Trace = network(
                _images(recipe, batch),
                batch.padding,
                min(index + 1, len(STAGES)),
                project=last,
                interpret=False,
                adapt=names,
            )
        taught = self._taught(recipe, batch, run)
        found = _feature_losses(network, run, taught, batch, names or ("projected",))
        (value,) = found.values()
        return _row(self.loss_names, {"loss": value, **found})


class JointTask(DistillationTask):
    """All at once, through the frozen transformer.

    A weighted sum of differences in features (stages through adapters, projected features,
    encoder memory) and in outputs, and of the ground truth's set loss. The weights are functions
    of the share of the steps that are done.
    """

    @property
    def loss_names(self) -> tuple[str, ...]:
        """See `Task`; those of the truth are as in training."""
        return ("loss", "classes", "l1", "giou", "dense", *STAGES, "projected", "memory", "outputs")

    def build(self, recipe: Recipe) -> nn.Module:
        """See `Task`; errors as `build_student`."""
        return self._build(recipe, _hints(recipe), phases=1)

    def trained(self, student: Student, phase: int) -> Sequence[nn.Module]:
        """Return the backbone, `input_proj` and the adapters."""
        return [student.detr.backbone, student.detr.input_proj, student.adapters]

    def losses(self, recipe: Recipe, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """See `Task`."""
        hints = _hints(recipe)
        with mixed_precision(recipe, batch.images.device):
            run: Trace = network(_images(recipe, batch), batch.padding, adapt=hints)
        taught = self._taught(recipe, batch, run)
        if run.output is None or taught.output is None:
            raise RuntimeError("a whole trace has outputs")
        weights = loss_weights(recipe, step)
        names = (*hints, *(name for name in ("projected", "memory") if name in weights))
        found = _feature_losses(network, run, taught, batch, names)
        theirs, ours = taught.output.detr, run.output.detr
        found["outputs"] = output_loss(
            ours.layer_logits, ours.layer_boxes, theirs.layer_logits, theirs.layer_boxes, WEIGHTS
        ).total(WEIGHTS)
        truth, last, dense = truth_losses(recipe, run.output, batch)
        total = weights.get("truth", 0.0) * truth
        for name, value in found.items():
            total = total + weights.get(name, 0.0) * value
        parts = {"classes": last.classes, "l1": last.l1, "giou": last.giou, "dense": dense}
        return _row(self.loss_names, {"loss": total, **parts, **found})


class ShorterEncoderTask(JointTask):
    """A shorter encoder before the same decoder; the backbone is the teacher's and stays so."""

    def trained(self, student: Student, phase: int) -> Sequence[nn.Module]:
        """Return the encoder."""
        return [student.detr.transformer.encoder]


def make_task(recipe: Recipe, teacher: Teacher, first_batches: Batches) -> DistillationTask:
    """Return the task of a run.

    Raises:
        ValueError: the recipe is not one of distillation.
    """
    if recipe.distillation is None:
        raise ValueError("the recipe has no teacher")
    kinds: dict[str, Callable[[Recipe, Teacher, Batches], DistillationTask]]
    kinds = {"stages": StagewiseTask, "joint": JointTask, "encoder": ShorterEncoderTask}
    return kinds[recipe.distillation.method](recipe, teacher, first_batches)


def loss_weights(recipe: Recipe, step: int) -> dict[str, float]:
    """Return the weight of each loss at `step` (from 0)."""
    if recipe.distillation is None:
        return {}
    share = step / recipe.steps
    return {
        name: float(np.interp(share, [at for at, _ in points], [weight for _, weight in points]))
        for name, points in recipe.distillation.weights.items()
    }


def _hints(recipe: Recipe) -> tuple[str, ...]:
    """Return the stages that have a loss."""
    weights = recipe.distillation.weights if recipe.distillation else {}
    return tuple(name for name in STAGES if name in weights)


def _images(recipe: Recipe, batch: Batch) -> Tensor:
    layout = memory_format(recipe, batch.images.device)
    return batch.images.contiguous(memory_format=layout)


def _feature_losses(
    network: nn.Module, run: Trace, taught: Trace, batch: Batch, names: Sequence[str]
) -> dict[str, Tensor]:
    """Return the mean squared differences at the levels `names`, standardised."""
    student = network.module if isinstance(network, DistributedDataParallel) else network
    statistics = cast(Student, student).statistics
    own = {
        name: statistics[name](value)
        for name, value in teacher_levels(run).items()
        if name not in STAGES
    }
    own |= run.adapted
    wanted = teacher_levels(taught)
    return {
        name: feature_loss(
            own[name].float(),
            statistics[name](wanted[name].float()),
            resize_padding(batch.padding, *wanted[name].shape[-2:]),
        )
        for name in names
    }


def _row(names: Sequence[str], found: dict[str, Tensor]) -> Tensor:
    missing = found["loss"].new_full((), torch.nan)
    return torch.stack([found.get(name, missing) for name in names])
