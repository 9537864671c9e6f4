"""Training D-FINE without a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detr.training.batches import Batch
from detr.training.d_fine_losses import LOSS_NAMES, labels_of, loss_row, set_losses
from detr.training.d_fine_model import DFineNetwork, build_network
from detr.training.optimisation import Phase
from detr.training.recipe import Recipe
from detr.training.state import memory_format
from detr.training.task import mixed_precision


class DFineTask:
    """Set prediction and denoising from labelled pictures."""

    loss_names = LOSS_NAMES

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        """`say` is called with what of the recipe's weights is not used."""
        self._say = say

    def build(self, recipe: Recipe) -> nn.Module:
        """See `Task`; errors as `build_network`."""
        return build_network(recipe, self._say)

    def begin_phase(self, recipe: Recipe, model: nn.Module, phase: Phase, anew: bool) -> None:
        """Leave everything trainable; there is one phase only."""

    def train_mode(self, model: nn.Module, phase: Phase) -> None:
        """See `Task`."""
        model.train()

    def losses(self, recipe: Recipe, network: nn.Module, batch: Batch, step: int) -> Tensor:
        """See `Task`."""
        images = batch.images.contiguous(memory_format=memory_format(recipe, batch.images.device))
        labels = labels_of(batch)
        with mixed_precision(recipe, batch.images.device):
            output = network(images, labels)
        return loss_row(set_losses(inner(network).criterion, output, labels))


def inner(network: nn.Module) -> DFineNetwork:
    """The network itself, where several processes wrap it."""
    wrapped = network.module if isinstance(network, DistributedDataParallel) else network
    return cast(DFineNetwork, wrapped)
