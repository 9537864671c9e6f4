"""How many values a tensor's shape stands for, and which of them are one channel's."""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np

from common.domain.errors import InvalidInputError

MAX_VALUES = 1 << 25
"""Most values of a tensor that is decoded: 128 MiB as float32. A few bytes may name any shape."""


def checked_count(shape: Tuple[int, ...]) -> int:
    """How many values a tensor of this shape has.

    Raises:
        InvalidInputError: more than `MAX_VALUES`.
    """
    count = math.prod(shape)
    if count > MAX_VALUES:
        raise InvalidInputError(
            f"a tensor of shape {shape} has {count} values; at most {MAX_VALUES} are decoded"
        )
    return count


def nothing(data: bytes, shape: Tuple[int, ...]) -> np.ndarray:
    """The tensor of a shape without values, whose payload is empty.

    Raises:
        InvalidInputError: it is not.
    """
    if data:
        raise InvalidInputError(f"a tensor of shape {shape} takes 0 bytes, not {len(data)}")
    return np.empty(shape, np.float32)


def channel_shape(shape: Tuple[int, ...]) -> Tuple[int, int, int]:
    """Frames, channels and cells a channel of a tensor [frames,channels,...].

    A tensor of fewer than two axes is one frame of one channel.
    """
    if len(shape) < 2:
        return 1, 1, math.prod(shape)
    return shape[0], shape[1], math.prod(shape[2:])
