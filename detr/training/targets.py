"""What a batch holds: images, padding, and the objects in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


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
