"""What a run minimises and which weights it trains: the protocol, and detection from labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from detr.training.batches import Batch
from detr.training.losses import LossParts, LossWeights, MatchCosts, set_loss
from detr.training.model import TrainingOutput, dense_loss
from detr.training.optimisation import Phase
from detr.training.recipe import Recipe
from detr.training.state import build_model, memory_format

COSTS = MatchCosts()
WEIGHTS = LossWeights()


class Task(Protocol):
    """One kind of run."""

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The names of what `losses` returns; the first is `loss`."""

    def build(self, recipe: Recipe) -> nn.Module:
        """Make the model to start with; what no phase trains is frozen."""

    def begin_phase(self, recipe: Recipe, model: nn.Module, phase: Phase, anew: bool) -> None:
        """Choose the weights to train; `anew` is false if a run resumes within the phase."""

    def train_mode(self, model: nn.Module, phase: Phase) -> None:
        """Put what is trained into training mode, and the rest into evaluation mode."""

    def losses(self, recipe: Recipe, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """Run the network and return the losses, the one to minimise first; NaN where not used.

        Args:
            recipe: the run's recipe.
            network: the model, or what runs it over several processes.
            batch: this process's share of the batch.
            step: counted from 0.
        """


class DetectionTask:
    """Set prediction from labelled pictures, without a teacher."""

    loss_names = ("loss", "classes", "l1", "giou", "dense")

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        """`say` is called with what of the recipe's weights file is not used."""
        self._say = say

    def build(self, recipe: Recipe) -> nn.Module:
        """See `Task`; errors as `build_model`."""
        return build_model(recipe, self._say)

    def begin_phase(self, recipe: Recipe, model: nn.Module, phase: Phase, anew: bool) -> None:
        """Leave everything trainable; there is one phase only."""

    def train_mode(self, model: nn.Module, phase: Phase) -> None:
        """See `Task`."""
        model.train()

    def losses(self, recipe: Recipe, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """See `Task`."""
        images = batch.images.contiguous(memory_format=memory_format(recipe, batch.images.device))
        with mixed_precision(recipe, batch.images.device):
            output: TrainingOutput = network(images, batch.padding)
        return total_loss(recipe, output, batch)


def mixed_precision(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Return the context in which models run."""
    kind = torch.float16 if recipe.precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=recipe.precision != "fp32")


def total_loss(recipe: Recipe, output: TrainingOutput, batch: Batch) -> Tensor:
    """Return [5]: what is minimised, the last layer's parts, the dense head's total."""
    total, last, dense = truth_losses(recipe, output, batch)
    return torch.stack([total, last.classes, last.l1, last.giou, dense])


def truth_losses(
    recipe: Recipe, output: TrainingOutput, batch: Batch
) -> tuple[Tensor, LossParts, Tensor]:
    """Return the ground truth's total, the last layer's parts, and the dense head's total."""
    layers = set_loss(
        output.detr.layer_logits,
        output.detr.layer_boxes,
        batch,
        groups=recipe.parts.query_groups,
        costs=COSTS,
        weights=WEIGHTS,
    )
    total = torch.stack([layer.total(WEIGHTS) for layer in layers]).sum()
    dense = total.new_zeros(())
    if output.dense_logits is not None and output.dense_boxes is not None:
        stride = batch.images.shape[2] / output.dense_logits.shape[1]
        parts = dense_loss(
            output.dense_logits, output.dense_boxes, output.detr.padding, batch, stride
        )
        dense = parts.total(WEIGHTS)
    return total + recipe.parts.dense_head_weight * dense, layers[-1], dense
