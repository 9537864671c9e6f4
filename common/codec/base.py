"""What every codec shares: its interface, and which tensors it may be given or asked for."""

from __future__ import annotations

import math
from typing import Protocol, Tuple

import numpy as np

from common.domain.errors import InvalidInputError

MAX_FEATURE = 65536.0
"""No feature is larger: binary16, as which features may travel, ends just below."""
MAX_VALUES = 1 << 25
"""Most values of a tensor that is decoded: 128 MiB as float32. A few bytes may name any shape."""


class TensorCodec(Protocol):
    """One way to turn a float32 tensor into bytes; it never changes the tensor's shape."""

    def encode(self, tensor: np.ndarray) -> bytes:
        """Encode a float32 tensor of any shape and stride, row-major."""
        ...

    def decode(self, data: bytes, shape: Tuple[int, ...]) -> np.ndarray:
        """Decode to float32 of the given shape, C-contiguous, possibly read-only.

        Raises:
            InvalidInputError: the payload does not hold a tensor of this shape.
        """
        ...


def are_features(values: np.ndarray) -> bool:
    """Whether all are numbers, and none is so large that a sound engine makes infinities of it."""
    # Comparisons with NaN, which is the least and the largest wherever there is one, are false.
    return bool(values.min() >= -MAX_FEATURE and values.max() <= MAX_FEATURE)


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
