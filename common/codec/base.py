"""What every codec has to do."""

from __future__ import annotations

from typing import Protocol, Tuple

import numpy as np


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
