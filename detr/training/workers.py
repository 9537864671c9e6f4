"""Worker processes that prepare samples: whether their batches fit into shared memory."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from common.bundle import FixedInput
from common.domain.errors import ConfigurationError, ResourceExhaustedError, TandemError
from detr.training.distributed import world_size
from detr.training.recipe import CocoData, Recipe
from detr.training.targets import Batch, Sample, collate

PREFETCHED_BATCHES = 4
"""Of each worker, that wait for their step."""

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
    if isinstance(data, CocoData):
        # Landscape and portrait may meet in a batch, but seldom do at full size.
        return max(data.short_sides) * data.longest_side
    if isinstance(recipe.input, FixedInput):
        return recipe.input.height * recipe.input.width
    raise ConfigurationError("scenes are composed for an input of fixed size.")


def _last_sentence(text: str) -> str:
    """Of a worker's error, which arrives with its traceback before it."""
    if "Traceback (most recent call last)" not in text:
        return text
    return re.sub(r"^[\w.]*Error: ", "", text.strip().splitlines()[-1])
