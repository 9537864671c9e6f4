"""What a frozen model says about pictures: the features at its cut, and what follows from them.

With inputs of one size this is computed once for a number of samples and kept in files, since a
bottleneck sees each sample several times. Otherwise it is computed for every batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from common.bundle import Normalization
from common.domain.errors import ConfigurationError
from detr.bottleneck.recipe import Pairs
from detr.model import DETR
from detr.training.batches import Batch


@dataclass(frozen=True)
class Signals:
    """What a model says about N pictures; L decoder layers, Q queries, K classes.

    Attributes:
        features: [N,C,h,w], projected.
        memory: [N,C,h,w], the encoder's output.
        logits: [N,L,Q,K+1].
        boxes: [N,L,Q,4].
        padding: [N,h,w] bool, true on padding.
        before: [N,C,h,w], the features of the frame before each; the same features where the
            recipe has no pairs.
    """

    features: Tensor
    memory: Tensor
    logits: Tensor
    boxes: Tensor
    padding: Tensor
    before: Tensor

    def to(self, device: torch.device) -> Signals:
        """Return the signals on a device."""
        return Signals(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})

    def valid_features(self) -> Tensor:
        """The features [M,C] of the cells without padding."""
        return self.features.permute(0, 2, 3, 1)[~self.padding]


@dataclass(frozen=True)
class FramePair:
    """A batch, and the frame before each of its pictures, as normalised images [N,3,H,W]."""

    batch: Batch
    before: Tensor


def frame_pair(
    batch: Batch, pairs: Pairs, normalization: Normalization, generator: torch.Generator
) -> FramePair:
    """Draw the frame before each picture of a batch; see `Pairs`."""
    count, _, height, width = batch.images.shape

    def drawn(share: float) -> Tensor:
        return (torch.rand(count, 1, generator=generator) < share).float()

    shift = (2 * torch.rand(count, 2, generator=generator) - 1) * pairs.largest_shift_pixels
    shift = shift * (1 - drawn(pairs.still_share))
    # From pixels to the units of `affine_grid`, in which a picture reaches from -1 to 1.
    shift = shift * torch.tensor([2 / width, 2 / height])
    matrix = torch.cat([torch.eye(2).expand(count, 2, 2), shift[:, :, None]], dim=2)
    grid = functional.affine_grid(matrix, [count, 3, height, width], align_corners=False)
    moved = functional.grid_sample(
        batch.images, grid, "bicubic", padding_mode="border", align_corners=False
    )
    levels = torch.rand(count, 1, generator=generator) * pairs.largest_noise_levels
    deviation = (levels * drawn(pairs.noisy_share))[:, :, None, None] / 255
    deviation = deviation / torch.tensor(normalization.std)[:, None, None]
    seen = (~batch.padding[:, None]).float()

    def noisy(images: Tensor) -> Tensor:
        noise = torch.randn(images.shape, generator=generator)
        return (images + noise * deviation) * seen

    return FramePair(replace(batch, images=noisy(batch.images)), noisy(moved))


@torch.no_grad()
def signals_of(model: DETR, batch: Batch, before: Tensor | None = None) -> Signals:
    """Run a model on a batch, and its backbone on the frames before."""
    features, padding, pos = model.backbone(batch.images, batch.padding)
    projected = model.input_proj(features)
    output = model.interpret(projected, padding, pos)
    earlier = projected
    if before is not None:
        earlier = model.input_proj(model.backbone(before, batch.padding)[0])
    return Signals(
        features=projected,
        memory=output.memory,
        logits=output.layer_logits.transpose(0, 1),
        boxes=output.layer_boxes.transpose(0, 1),
        padding=padding,
        before=earlier,
    )


_DESCRIPTION = "signals.json"
# Half precision is far finer than what a bottleneck keeps.
_TYPES = {"features": "<f2", "memory": "<f2", "logits": "<f4", "boxes": "<f4", "padding": "|b1"}
_TYPES["before"] = _TYPES["features"]


class SignalCache:
    """The signals of a number of samples, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Open a complete cache."""
        self._arrays = {
            each.name: np.load(folder / f"{each.name}.npy", mmap_mode="r")
            for each in fields(Signals)
        }

    def __len__(self) -> int:
        """The number of samples."""
        return len(self._arrays["features"])

    def batch(self, indices: np.ndarray) -> Signals:
        """The signals of these samples, float32."""
        values = {}
        for name, array in self._arrays.items():
            part = torch.from_numpy(np.ascontiguousarray(array[indices]))
            values[name] = part if part.dtype is torch.bool else part.float()
        return Signals(**values)


def open_cache(
    folder: Path,
    identity: dict[str, object],
    samples: int,
    compute: Callable[[], Iterable[Signals]],
    report: Callable[[int], None] = lambda done: None,
) -> SignalCache:
    """Open the signals of `samples` samples; they are computed where the folder has not these.

    Args:
        folder: of the cache.
        identity: what the signals depend on; a cache of something else is made anew.
        samples: how many there are to be.
        compute: yields them in batches, all of one size.
        report: is told the number of samples that are done.

    Raises:
        ConfigurationError: the pictures are of several sizes.
    """
    description = folder / _DESCRIPTION
    wanted = {**identity, "samples": samples}
    if description.is_file() and json.loads(description.read_text("utf-8")) == wanted:
        return SignalCache(folder)
    folder.mkdir(parents=True, exist_ok=True)
    description.unlink(missing_ok=True)
    _write(folder, samples, compute(), report)
    description.write_text(json.dumps(wanted), encoding="utf-8")
    return SignalCache(folder)


def _write(
    folder: Path, samples: int, batches: Iterable[Signals], report: Callable[[int], None]
) -> None:
    arrays: dict[str, np.memmap] = {}
    done = 0
    for signals in batches:
        count = min(len(signals.features), samples - done)
        for name, dtype in _TYPES.items():
            values = getattr(signals, name)[:count].numpy()
            if name not in arrays:
                arrays[name] = np.lib.format.open_memmap(
                    folder / f"{name}.npy", "w+", np.dtype(dtype), (samples, *values.shape[1:])
                )
            if arrays[name].shape[1:] != values.shape[1:]:
                raise ConfigurationError(
                    "signals can be cached only where all inputs have one size: set "
                    "cached_samples to 0"
                )
            arrays[name][done : done + count] = values
        done += count
        report(done)
        if done == samples:
            break
    for array in arrays.values():
        array.flush()


def shuffled(cache: SignalCache, batch_size: int, seed: int, first_step: int) -> Generator[Signals]:
    """Yield batches without end; which samples are in a batch depends on seed and step only."""
    step = first_step
    a_pass = len(cache) // batch_size
    while True:
        order = np.random.default_rng([seed, step // a_pass]).permutation(len(cache))
        for index in range(step % a_pass, a_pass):
            yield cache.batch(np.sort(order[index * batch_size : (index + 1) * batch_size]))
            step += 1
