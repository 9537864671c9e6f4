"""Plain IEEE 754 values, little-endian."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from common.domain.errors import InvalidInputError


class FloatingCodec:
    """Values in binary32 (exact) or binary16 (relative error at most 2^-11, saturating)."""

    def __init__(self, dtype: str) -> None:
        """Take the type of the values on the wire, as numpy names it (`<f4`, `<f2`)."""
        self._dtype = np.dtype(dtype)
        self._limits = np.finfo(self._dtype)

    def encode(self, tensor: np.ndarray) -> bytes:
        """Encode; values beyond the type's range become its largest, infinities and NaN stay."""
        if self._dtype.itemsize < tensor.dtype.itemsize:
            # A cast alone would turn a large activation into an infinity.
            saturated = np.clip(tensor, self._limits.min, self._limits.max)
            tensor = np.where(np.isinf(tensor), tensor, saturated)
        return tensor.astype(self._dtype, copy=False).tobytes()

    def decode(self, data: bytes, shape: Tuple[int, ...]) -> np.ndarray:
        """Decode; see `TensorCodec.decode`."""
        expected_bytes = int(np.prod(shape, dtype=np.int64)) * self._dtype.itemsize
        if len(data) != expected_bytes:
            raise InvalidInputError(
                f"a tensor of shape {shape} takes {expected_bytes} bytes, not {len(data)}"
            )
        return np.frombuffer(data, self._dtype).reshape(shape).astype(np.float32, copy=False)
