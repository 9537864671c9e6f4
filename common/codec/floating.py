"""Plain IEEE 754 values, little-endian."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from common.codec.shape import checked_count
from common.domain.errors import InvalidInputError


class FloatingCodec:
    """Values in binary32 (exact) or binary16 (relative error at most 2^-11, saturating)."""

    def __init__(self, dtype: str) -> None:
        """Take the type of the values on the wire, as numpy names it (`<f4`, `<f2`)."""
        self._dtype = np.dtype(dtype)
        self._limits = np.finfo(self._dtype)

    def encode(self, tensor: np.ndarray) -> bytes:
        """Encode; values beyond the type's range become its largest, infinities and NaN stay."""
        with np.errstate(over="ignore"):
            values = tensor.astype(self._dtype, copy=False)
        # The cast turns a large activation into an infinity, which is rare: look, then mend.
        overflown = np.isinf(values)
        if self._dtype.itemsize < tensor.dtype.itemsize and overflown.any():
            overflown &= np.isfinite(tensor)
            limits = np.clip(tensor[overflown], self._limits.min, self._limits.max)
            values[overflown] = limits
        return values.tobytes()

    def decode(self, data: bytes, shape: Tuple[int, ...]) -> np.ndarray:
        """Decode; see `TensorCodec.decode`."""
        expected_bytes = checked_count(shape) * self._dtype.itemsize
        if len(data) != expected_bytes:
            raise InvalidInputError(
                f"a tensor of shape {shape} takes {expected_bytes} bytes, not {len(data)}"
            )
        return np.frombuffer(data, self._dtype).reshape(shape).astype(np.float32, copy=False)
