"""Distilling D-FINE: a smaller backbone learns to give its teacher's levels, and to detect.

The student's transformer half (hybrid encoder, decoder and heads) is the teacher's, and stays so to
the bit. Whatever crosses the cut is compared with the teacher's, level by level; through the frozen
half, the detections are compared with the truth by transformers' losses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from detr.distillation.d_fine_teacher import DFineTeacher
from detr.distillation.losses import feature_loss
from detr.distillation.student import ChannelStatistics
from detr.distillation.tasks import STATISTICS_BATCHES, Batches, loss_weights
from detr.errors import WeightsError
from detr.training.batches import Batch
from detr.training.d_fine import inner
from detr.training.d_fine_losses import LOSS_NAMES, labels_of, loss_row, set_losses
from detr.training.d_fine_model import DFineNetwork, Labels, check_computable, new_model
from detr.training.optimisation import Phase
from detr.training.processes import mean_over_processes
from detr.training.recipe import Recipe
from detr.training.state import memory_format
from detr.training.task import mixed_precision

_PROJECTIONS = "model.encoder_input_proj."
_BACKBONE_HALF = ("model.backbone.", _PROJECTIONS)


class DFineStudent(DFineNetwork):
    """A network that tells its projected levels too, and how its teacher's are spread."""

    def __init__(self, model: Any, channels: int) -> None:
        """Take a model whose levels have `channels` each."""
        super().__init__(model)
        count = len(model.model.encoder_input_proj)
        self.statistics = nn.ModuleList(ChannelStatistics(channels) for _ in range(count))
        self._levels: list[Tensor] = []
        for projection in model.model.encoder_input_proj:
            projection.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._levels.append(output)

    def forward(self, images: Tensor, labels: Labels) -> tuple[Any, list[Tensor]]:
        """Images [N,3,H,W] to transformers' output and the levels [N,C,h,w], finest first."""
        self._levels = []
        output = super().forward(images, labels)
        levels, self._levels = self._levels, []
        return output, levels


class DFineDistillationTask:
    """Levels and truth at once, through the frozen transformer half."""

    def __init__(self, recipe: Recipe, teacher: DFineTeacher, first_batches: Batches) -> None:
        """`first_batches` are looked at before the first step, to measure the teacher's levels."""
        strides = teacher.model.config.feat_strides
        self.levels = tuple(f"features_{stride}" for stride in strides)
        self.loss_names = (*LOSS_NAMES, *self.levels)
        self.teacher = teacher
        self._first_batches = first_batches

    def build(self, recipe: Recipe) -> nn.Module:
        """Make a student; all that is not its backbone half is the teacher's, and frozen.

        Raises:
            WeightsError: the student's configuration changes the transformer half, or its parts
                do not fit together.
        """
        model = new_model(recipe)
        check_computable(recipe, model)
        own, theirs = model.state_dict(), self.teacher.model.state_dict()
        taken = {k: v for k, v in theirs.items() if not k.startswith(_BACKBONE_HALF)}
        strange = [k for k, v in taken.items() if k not in own or own[k].shape != v.shape]
        if strange:
            raise WeightsError(
                f"the student's transformer half is not teacher {self.teacher.identity.name}'s: "
                f"{', '.join(strange[:5])}."
            )
        # A projection of as many channels may start as the teacher's too.
        same = {
            k: v
            for k, v in theirs.items()
            if k.startswith(_PROJECTIONS) and own[k].shape == v.shape
        }
        model.load_state_dict({**taken, **same}, strict=False)
        student = DFineStudent(model, model.config.encoder_hidden_dim)
        student.requires_grad_(False)
        for module in _backbone_half(student):
            module.requires_grad_(True)
        return student

    def begin_phase(self, recipe: Recipe, model: nn.Module, phase: Phase, anew: bool) -> None:
        """See `Task`; before the first step the teacher's levels are measured."""
        student = cast(DFineStudent, model)
        device = next(student.parameters()).device
        self.teacher.model.to(device, memory_format=memory_format(recipe, device))
        if anew:
            first = (batch.to(device) for batch in self._first_batches(STATISTICS_BATCHES))
            self._measure(student, first)

    def train_mode(self, model: nn.Module, phase: Phase) -> None:
        """See `Task`: the running statistics of frozen norms stay as they are."""
        student = cast(DFineStudent, model)
        student.eval()
        for module in _backbone_half(student):
            module.train()
        # These two only choose what is computed by it: denoising, and every layer's outputs.
        student.d_fine.model.training = True
        student.d_fine.model.decoder.training = True

    def losses(self, recipe: Recipe, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """See `Task`."""
        images = batch.images.contiguous(memory_format=memory_format(recipe, batch.images.device))
        labels = labels_of(batch)
        with mixed_precision(recipe, batch.images.device):
            output, levels = network(images, labels)
            wanted = self._taught(images)
        student = cast(DFineStudent, inner(network))
        row = loss_row(set_losses(student.criterion, output, labels))
        features = torch.stack(
            [
                feature_loss(norm(own.float()), norm(theirs.float()), _no_padding(own))
                for norm, own, theirs in zip(student.statistics, levels, wanted, strict=True)
            ]
        )
        weights = loss_weights(recipe, step)
        total = weights.get("truth", 0.0) * row[0] + weights.get("features", 0.0) * features.sum()
        return torch.cat([total[None], row[1:], features])

    @torch.no_grad()
    def _taught(self, images: Tensor) -> list[Tensor]:
        model = self.teacher.model.model
        found = model.backbone.model(images).feature_maps
        return [project(x) for project, x in zip(model.encoder_input_proj, found, strict=True)]

    @torch.no_grad()
    def _measure(self, student: DFineStudent, batches: Iterable[Batch]) -> None:
        """Set mean and deviation of the channels of the teacher's levels, over all processes."""
        sums: list[Tensor] = []
        for batch in batches:
            levels = self._taught(batch.images)
            flat = [level.float().transpose(0, 1).flatten(1) for level in levels]
            moments = [torch.stack([x.mean(1), x.square().mean(1)]) for x in flat]
            sums = [a + b for a, b in zip(sums, moments, strict=True)] if sums else moments
        for norm, total in zip(student.statistics, sums, strict=True):
            mean, square = mean_over_processes(total / STATISTICS_BATCHES)
            channel = cast(ChannelStatistics, norm)
            channel.mean.copy_(mean)
            channel.std.copy_((square - mean.square()).clamp(min=1e-6).sqrt())


def _backbone_half(student: DFineStudent) -> tuple[nn.Module, nn.Module]:
    model = student.d_fine.model
    return model.backbone, model.encoder_input_proj


def _no_padding(level: Tensor) -> Tensor:
    return level.new_zeros((level.shape[0], *level.shape[2:]), dtype=torch.bool)
