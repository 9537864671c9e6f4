"""Which samples each step and process sees: a pure function of the step, so runs can resume."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


@dataclass(frozen=True)
class StepSampler(Sampler[list[int]]):
    """Yields, step after step, the sample indices of this process.

    Attributes:
        first_step: where to begin, counted from 0.
        last_step: one past the last step.
        batch_size: images a step over all processes.
        process: this process's number.
        processes: how many there are; they divide the batch size.
        length: number of samples, each seen once an epoch in a shuffled order; indices go on
            growing from epoch to epoch. None for an endless source, seen in its own order.
        seed: of the shuffling.
    """

    first_step: int
    last_step: int
    batch_size: int
    process: int
    processes: int
    length: int | None
    seed: int

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of each step."""
        share = self.batch_size // self.processes
        for step in range(self.first_step, self.last_step):
            start = step * self.batch_size + self.process * share
            yield [self._sample(position) for position in range(start, start + share)]

    def __len__(self) -> int:
        """Return the number of steps."""
        return self.last_step - self.first_step

    def _sample(self, position: int) -> int:
        if self.length is None:
            return position
        epoch, place = divmod(position, self.length)
        return epoch * self.length + int(_shuffled(self.length, self.seed, epoch)[place])


@functools.lru_cache(maxsize=2)
def _shuffled(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(length)
