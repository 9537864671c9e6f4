"""Models small enough for tests, with weights that leave nothing at its initial value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from common.bundle import Architecture
from detr.model import DETR

SMALL = Architecture(
    backbone="resnet18",
    base_width=8,
    encoder_layers=2,
    decoder_layers=2,
    hidden_dim=32,
    heads=4,
    feedforward_dim=48,
    queries=7,
    classes=5,
)


# Standard deviation of weights, times the root of their fan-in. Features stay about 1 through
# a hundred layers; attention is sharp; what each layer adds is small, or all cells become alike.
_GAINS = {
    "backbone": 0.9,
    "out_proj": 0.4,
    "o_proj": 0.4,
    "linear2": 0.4,
    "fc2": 0.4,
    "": 1.7,
}


def _randomise(model: nn.Module, seed: int = 0) -> None:
    """Draw every tensor anew, so that none is 0 or 1 and queries and layers differ.

    As libraries initialise them, norms are the identity, biases 0, and attention is so even that
    all queries come out alike: a test would not see whether they are read at all.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: torch.Size, centre: float, spread: float) -> torch.Tensor:
        return centre + spread * torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("num_batches_tracked", "query_mask")):
                continue
            if name.endswith("running_var") or (name.endswith("weight") and tensor.dim() == 1):
                tensor.copy_(draw(tensor.shape, 1, 0.2).abs() + 0.1)
            elif tensor.dim() == 1:
                tensor.copy_(draw(tensor.shape, 0, 0.2))
            elif "query" in name:
                tensor.copy_(draw(tensor.shape, 0, 1))
            else:
                gain = next(gain for part, gain in _GAINS.items() if part in name)
                tensor.copy_(draw(tensor.shape, 0, gain / tensor[0].numel() ** 0.5))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models this small lose more by waiting for a second thread than they gain by it."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def randomise() -> Callable[[nn.Module], None]:
    return _randomise


@pytest.fixture
def small_model() -> DETR:
    torch.manual_seed(0)
    model = DETR(SMALL)
    _randomise(model)
    return model.eval()
