"""Batches: what they hold, which samples are in each, and the workers that prepare them."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from common.bundle import FixedInput, StretchInput
from common.domain.errors import ConfigurationError, ResourceExhaustedError, TandemError
from detr.training.processes import world_size
from detr.training.recipe import CocoData, Recipe


@dataclass(frozen=True)
class Sample:
    """One image and its T objects.

    Attributes:
        image: float32 [3,H,W], normalised, 0 on padding.
        valid_size: height and width of the image without padding, pixels.
        classes: int64 [T], rows of the class head.
        boxes: float32 [T,4], centre x, centre y, width, height in 0..1 of the valid size.
    """

    image: Tensor
    valid_size: tuple[int, int]
    classes: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Batch:
    """N images; T is the largest number of objects in one, rows beyond `counts` are unused.

    Attributes:
        images: float32 [N,3,H,W], 0 on padding.
        padding: bool [N,H,W], true on padding.
        valid_sizes: int64 [N,2], height and width without padding, pixels.
        classes: int64 [N,T].
        boxes: float32 [N,T,4], centre x, centre y, width, height in 0..1 of the valid size.
        counts: number of objects of each image.
    """

    images: Tensor
    padding: Tensor
    valid_sizes: Tensor
    classes: Tensor
    boxes: Tensor
    counts: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; from pinned memory the copy does not wait."""
        return self._mapped(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in memory that a GPU can read by itself; `DataLoader` calls this."""
        return self._mapped(lambda value: value.pin_memory())

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        tensors: dict[str, Any] = {
            name: change(v) for name, v in vars(self).items() if isinstance(v, Tensor)
        }
        return replace(self, **tensors)


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad images on the right and below, and objects with zeros, to the largest of the batch."""
    height = max(sample.image.shape[1] for sample in samples)
    width = max(sample.image.shape[2] for sample in samples)
    most = max(1, *(len(sample.classes) for sample in samples), 1)
    images = torch.zeros(len(samples), 3, height, width)
    padding = torch.ones(len(samples), height, width, dtype=torch.bool)
    classes = torch.zeros(len(samples), most, dtype=torch.int64)
    boxes = torch.zeros(len(samples), most, 4)
    for index, sample in enumerate(samples):
        images[index, :, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
        padding[index, : sample.valid_size[0], : sample.valid_size[1]] = False
        classes[index, : len(sample.classes)] = sample.classes
        boxes[index, : len(sample.classes)] = sample.boxes
    return Batch(
        images=images,
        padding=padding,
        valid_sizes=torch.tensor([sample.valid_size for sample in samples]),
        classes=classes,
        boxes=boxes,
        counts=tuple(len(sample.classes) for sample in samples),
    )


@dataclass(frozen=True)
class StepSampler(Sampler[list[int]]):
    """Yields, step after step, the sample indices of this process.

    Attributes:
        first_step: number of the first step, from 0.
        last_step: one past the last step.
        batch_size: images a step over all processes.
        process: this process's number.
        processes: how many there are; they divide the batch size.
        length: number of samples, each seen once an epoch in a shuffled order; indices go on
            growing from epoch to epoch. None for an endless source, seen in its own order.
        seed: seed of the shuffling.
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


PREFETCHED_BATCHES = 4
"""How many batches of each worker wait for their step."""

SHARED_MEMORY = Path("/dev/shm")
_REMEDY = "raise it (docker run --shm-size 1g; shm_size: 1g in a compose file), or give --workers 0"
_BYTES_A_PIXEL = 3 * 4 + 1  # fp32 in three channels, and whether it is padding


def check_shared_memory(recipe: Recipe, workers: int) -> None:
    """Refuse workers whose batches would not fit: they would be killed at some step.

    Raises:
        ResourceExhaustedError: `/dev/shm` is too small, as Docker's 64 MB often are.
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    batches = here * (workers * PREFETCHED_BATCHES + 1)
    pictures = recipe.batch_size // world_size()
    needed = batches * pictures * _largest_pixels(recipe) * _BYTES_A_PIXEL
    free = shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise ResourceExhaustedError(
            f"{SHARED_MEMORY} has {free / 1e6:.1f} MB free, but the workers' {batches} batches of "
            f"{pictures} pictures need up to {needed / 1e6:.1f} MB: {_REMEDY}."
        )


def collate_shared(samples: Sequence[Sample]) -> Batch:
    """In a worker: `collate` into shared memory.

    Left to torch, that is done by a thread whose failure nobody hears of: the run would wait for
    the batch for ever.
    """
    batch = collate(samples)
    for value in vars(batch).values():
        if isinstance(value, Tensor):
            value.share_memory_()  # type: ignore[no-untyped-call]
    return batch


def from_workers(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield batches; what went wrong in a worker becomes one sentence.

    Raises:
        ResourceExhaustedError: a worker was killed, or shared memory is full.
        TandemError: as the worker raised it.
    """
    try:
        yield from batches
    except TandemError as error:
        raise type(error)(_last_sentence(str(error))) from error
    except (RuntimeError, OSError) as error:
        raise _resources_error(error) from error


def _resources_error(error: Exception) -> Exception:
    """What a worker's end, or the failure to hand over its batch, means; else the error itself."""
    text = f"{error} {error.__cause__}"
    if any(sign in text for sign in ("Bus error", "shared memory", "No space left", "shm")):
        return ResourceExhaustedError(f"{SHARED_MEMORY} is full: {_REMEDY}.")
    if "DataLoader worker" in text:
        return ResourceExhaustedError(
            "a worker was ended, perhaps for want of memory: give fewer --workers, or 0."
        )
    return error


def _largest_pixels(recipe: Recipe) -> int:
    data = recipe.data
    if isinstance(data, CocoData) and not isinstance(recipe.input, StretchInput):
        # Landscape and portrait may meet in a batch, but seldom do at full size.
        return max(data.short_sides) * data.longest_side
    if isinstance(recipe.input, FixedInput | StretchInput):
        return recipe.input.height * recipe.input.width
    raise ConfigurationError("scenes are composed for an input of fixed size.")


def _last_sentence(text: str) -> str:
    """Of a worker's error, which arrives with its traceback before it."""
    if "Traceback (most recent call last)" not in text:
        return text
    return re.sub(r"^[\w.]*Error: ", "", text.strip().splitlines()[-1])
