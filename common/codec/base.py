"""What every codec shares: its interface, and which tensors it may be given or asked for."""

from __future__ import annotations

import math
from typing import Protocol, Tuple

import numpy as np

from common.domain.errors import InvalidInputError

MAX_FEATURE = 65536.0
"""The largest magnitude of a feature. Features may travel as binary16, which ends just below."""
MAX_VALUES = 1 << 25
"""The most values that a tensor may have to be decoded: 128 MiB as float32.

The limit is needed because a payload of a few bytes can name any shape.
"""


class TensorCodec(Protocol):
    """One way to turn a float32 tensor into bytes and back, in the same shape."""

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
    """Whether all values are numbers that a sound engine can compute with."""
    # If there is a NaN, it is the result of min and max, and comparing with it gives False.
    return bool(values.min() >= -MAX_FEATURE and values.max() <= MAX_FEATURE)


def checked_count(shape: Tuple[int, ...]) -> int:
    """Count the values of a tensor of this shape.

    Raises:
        InvalidInputError: it has more than `MAX_VALUES`.
    """
    count = math.prod(shape)
    if count > MAX_VALUES:
        raise InvalidInputError(
            f"a tensor of shape {shape} has {count} values; at most {MAX_VALUES} are decoded"
        )
    return count


def nothing(data: bytes, shape: Tuple[int, ...]) -> np.ndarray:
    """The tensor of a shape without values.

    Raises:
        InvalidInputError: its payload is not empty.
    """
    if data:
        raise InvalidInputError(f"a tensor of shape {shape} takes 0 bytes, not {len(data)}")
    return np.empty(shape, np.float32)


def channel_shape(shape: Tuple[int, ...]) -> Tuple[int, int, int]:
    """Reduce a shape [frames,channels,...] to frames, channels and cells of a channel.

    A tensor of fewer than two axes counts as one frame of one channel.
    """
    if len(shape) < 2:
        return 1, 1, math.prod(shape)
    return shape[0], shape[1], math.prod(shape[2:])
