"""Exponential moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
