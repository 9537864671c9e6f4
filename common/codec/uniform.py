"""2 to 6 bits a value, in ranges that were calibrated ahead of time."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

from common.bundle import Calibration
from common.codec import entropy
from common.codec.shape import channel_shape, checked_count, nothing
from common.codec.symbols import SymbolLayout
from common.domain.codec import Codec
from common.domain.errors import InvalidInputError


class UniformCodec:
    """2^bits levels from mean - clip std to mean + clip std of each channel's calibration.

    Values beyond, infinities too, become the range's end, and NaN becomes the level above the
    middle. Between the ends the error is at most half a step. Ranges do not travel: both sides
    have them from the same bundle.
    """

    def __init__(self, bits: int, calibration: Calibration, codec: Codec) -> None:
        """Take the ranges.

        Args:
            bits: a value.
            calibration: of the bundle.
            codec: whose clipping factor to use.
        """
        self._layout = SymbolLayout(bits)
        self._channels = len(calibration.mean)
        self._name = codec.value
        reach = calibration.clip[codec.value] * np.array(calibration.std)
        self._least = (np.array(calibration.mean) - reach).astype(np.float32)[:, None]
        self._step = (2 * reach / (self._layout.levels - 1)).astype(np.float32)[:, None]
        # A channel that never changed has one level, whatever its symbols are.
        self._inverse = np.divide(
            1, self._step, out=np.zeros_like(self._step), where=self._step > 1e-30
        )

    def encode(self, tensor: np.ndarray) -> bytes:
        """Encode [frames,channels,...], any stride.

        Raises:
            InvalidInputError: the tensor has not the calibrated channels.
        """
        self._check_channels(tensor.shape)
        return entropy.compress(self.parts(tensor)) if tensor.size else b""

    def parts(self, tensor: np.ndarray) -> List[bytes]:
        """What the entropy coder gets: the symbols; at least one value."""
        values = np.ascontiguousarray(tensor, np.float32).reshape(channel_shape(tensor.shape))
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = values - self._least
            scaled *= self._inverse
            scaled += np.float32(0.5)
            np.clip(scaled, 0, self._layout.levels - 0.5, out=scaled)
            # The least of all is NaN if any is.
            if np.isnan(scaled.min()):
                scaled[np.isnan(scaled)] = self._layout.levels // 2
        return self._layout.to_parts(scaled.astype(np.uint8))

    def decode(self, data: bytes, shape: Tuple[int, ...]) -> np.ndarray:
        """Decode; see `TensorCodec.decode`."""
        self._check_channels(shape)
        if not checked_count(shape):
            return nothing(data, shape)
        view = frames, channels, cells = channel_shape(shape)
        content = entropy.decompress(data, self._layout.size(frames * channels, cells))
        values = self._layout.from_bytes(content, view).astype(np.float32)
        values *= self._step
        values += self._least
        return values.reshape(shape)

    def _check_channels(self, shape: Tuple[int, ...]) -> None:
        if len(shape) < 2 or shape[1] != self._channels:
            raise InvalidInputError(
                f"codec {self._name} is calibrated for tensors of shape (frames, "
                f"{self._channels}, ...), not {shape}"
            )
