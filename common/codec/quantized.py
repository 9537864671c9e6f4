"""Codecs of 2 to 8 bits a value: in the ranges of each frame, or in ranges calibrated ahead."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

from common.bundle import Calibration
from common.codec.base import channel_shape, checked_count, nothing
from common.codec.symbols import SymbolLayout, compress, decompress
from common.domain.codec import Codec
from common.domain.errors import InvalidInputError

# The widest range of a channel is twice this, which is still a finite float32.
_LIMIT = np.float32(2.0**126)
_SMALLEST_STEP = np.finfo(np.float32).tiny
# A little above the step that the widest range gives.
_LARGEST_STEP = np.float32(2.0**127 / 254)
_RANGE_BYTES = 8


class AffineCodec:
    """256 levels between the smallest and the largest value of each channel of each frame.

    The error is at most half a step, which is 1/510 of the channel's range. Infinities, and values
    beyond 2^126, become the end of the range that the other values span, and NaN becomes its middle
    level. A channel that holds nothing else becomes 0.
    """

    def __init__(self) -> None:
        """Prepare the layout of the symbols."""
        self._layout = SymbolLayout(8)

    def encode(self, tensor: np.ndarray) -> bytes:
        """Encode a tensor [frames,channels,...] of any stride."""
        if not tensor.size:
            return b""
        return compress(self.parts(tensor))

    def parts(self, tensor: np.ndarray) -> List[bytes]:
        """What the entropy coder gets for a tensor with values: ranges and steps, then symbols."""
        shape = channel_shape(tensor.shape)
        values = np.ascontiguousarray(tensor, np.float32).reshape(shape)
        least, most = values.min(axis=-1, keepdims=True), values.max(axis=-1, keepdims=True)
        missing = None
        # Comparing with NaN gives False, so this finds every value that is out of bounds.
        if not (np.all(least >= -_LIMIT) and np.all(most <= _LIMIT)):
            values, least, most, missing = _bounded(values)
        step = (most - least) / np.float32(255)
        step[step < _SMALLEST_STEP] = 0
        inverse = np.divide(1, step, out=np.zeros_like(step), where=step > 0)
        scaled = (values - least) * inverse
        scaled += np.float32(0.5)
        symbols = scaled.astype(np.uint8)
        if missing is not None:
            symbols[missing] = self._layout.levels // 2
        ranges: bytes = np.stack([least, step]).astype("<f4", copy=False).tobytes()
        return [ranges, *self._layout.to_parts(symbols)]

    def decode(self, data: bytes, shape: Tuple[int, ...]) -> np.ndarray:
        """Decode; see `TensorCodec.decode`."""
        if not checked_count(shape):
            return nothing(data, shape)
        view = frames, channels, cells = channel_shape(shape)
        rows = frames * channels
        size = rows * _RANGE_BYTES + self._layout.size(rows, cells)
        content = decompress(data, size)
        least, step = np.frombuffer(content, "<f4", 2 * rows).reshape(2, frames, channels, 1)
        if not np.all((np.abs(least) <= _LIMIT) & (step >= 0) & (step <= _LARGEST_STEP)):
            raise InvalidInputError("the range of a channel is not finite, or too wide")
        values = self._layout.from_bytes(content[rows * _RANGE_BYTES :], view).astype(np.float32)
        values *= step
        values += least
        return values.reshape(shape)


class UniformCodec:
    """2^bits levels from mean - clip * std to mean + clip * std of each channel's calibration.

    Values beyond that range, infinities too, become its end, and NaN becomes the level above the
    middle. Within the range the error is at most half a step. Ranges do not travel: both sides
    have them from the same bundle.
    """

    def __init__(self, bits: int, calibration: Calibration, codec: Codec) -> None:
        """Take the ranges.

        Args:
            bits: of each value.
            calibration: the bundle's.
            codec: the codec whose clipping factor to use.
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
        """Encode a tensor [frames,channels,...] of any stride.

        Raises:
            InvalidInputError: the tensor does not have the calibrated number of channels.
        """
        self._check_channels(tensor.shape)
        return compress(self.parts(tensor)) if tensor.size else b""

    def parts(self, tensor: np.ndarray) -> List[bytes]:
        """What the entropy coder gets for a tensor with values: the symbols."""
        values = np.ascontiguousarray(tensor, np.float32).reshape(channel_shape(tensor.shape))
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = values - self._least
            scaled *= self._inverse
            scaled += np.float32(0.5)
            np.clip(scaled, 0, self._layout.levels - 0.5, out=scaled)
            # The minimum is NaN if any value is.
            if np.isnan(scaled.min()):
                scaled[np.isnan(scaled)] = self._layout.levels // 2
        return self._layout.to_parts(scaled.astype(np.uint8))

    def decode(self, data: bytes, shape: Tuple[int, ...]) -> np.ndarray:
        """Decode; see `TensorCodec.decode`."""
        self._check_channels(shape)
        if not checked_count(shape):
            return nothing(data, shape)
        view = frames, channels, cells = channel_shape(shape)
        content = decompress(data, self._layout.size(frames * channels, cells))
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


def _bounded(
    values: np.ndarray,
) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Clip values [frames,channels,cells] to the range of those that are finite and within bounds.

    Returns:
        The clipped values, the ends of the range [frames,channels,1], and where NaN was.
    """
    proper = np.abs(values) <= _LIMIT
    least = np.where(proper, values, np.inf).min(axis=-1, keepdims=True)
    most = np.where(proper, values, -np.inf).max(axis=-1, keepdims=True)
    empty = least > most
    least[empty] = most[empty] = 0
    missing = np.isnan(values)
    return np.where(missing, least, np.clip(values, least, most)), least, most, missing
