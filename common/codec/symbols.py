"""Quantised values to bytes that an entropy coder makes the most of, and back."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from common.domain.errors import InvalidInputError

# Symbols that share a byte, by bits a symbol.
_SYMBOLS_A_BYTE = {2: 4, 3: 2, 4: 2, 5: 1, 6: 1, 7: 1, 8: 1}


class SymbolLayout:
    """The layout of symbols of `bits` bits, for an entropy coder over bytes.

    - Each channel is turned (modulo the number of levels) so that its mean lies in the middle.
      A frame moves the means of its channels about; turned, the channels' histograms are so
      alike that the one code of all costs about 4 % more than each channel's own would.
    - Several symbols share a byte, where they fit: a code over bytes then spends fractions of a
      bit on a symbol, and neighbouring cells, which are alike, are coded together.
    """

    def __init__(self, bits: int) -> None:
        """Lay out symbols of 2 to 8 bits."""
        self.levels = 1 << bits
        self._mask = np.uint8(self.levels - 1)
        self._a_byte = _SYMBOLS_A_BYTE[bits]
        self._spacing = 8 // self._a_byte
        self._word = np.dtype(f"<u{self._a_byte}")

    def size(self, frames: int, channels: int, cells: int) -> int:
        """Bytes of the symbols of so many frames, channels and cells."""
        rows = frames * channels
        return self._packed_size(rows) + self._packed_size(rows * cells)

    def to_bytes(self, symbols: np.ndarray) -> bytes:
        """Lay out symbols, uint8 [frames,channels,cells] below `levels`, cells at least 1.

        Returns:
            The turn of each channel, then the turned symbols, both row-major and packed.
        """
        cells = symbols.shape[-1]
        totals = symbols.sum(axis=-1, dtype=np.uint32, keepdims=True)
        # Each row's mean, rounded, less the middle.
        turns = ((totals + cells // 2) // cells + self.levels // 2).astype(np.uint8) & self._mask
        turned = (symbols - turns) & self._mask
        return self._packed(turns) + self._packed(turned)

    def from_bytes(self, data: bytes, shape: Tuple[int, int, int]) -> np.ndarray:
        """Symbols of a shape [frames,channels,cells] from the bytes of `to_bytes`.

        Returns:
            uint8, every one below `levels`, whatever the bytes are.

        Raises:
            InvalidInputError: there are more or fewer bytes than the shape takes.
        """
        if len(data) != self.size(*shape):
            raise InvalidInputError(
                f"the symbols of shape {shape} take {self.size(*shape)} bytes, not {len(data)}"
            )
        rows = shape[0] * shape[1]
        packed = np.frombuffer(data, np.uint8)
        split = self._packed_size(rows)
        turns = self._unpacked(packed[:split], rows).reshape(shape[0], shape[1], 1)
        turned = self._unpacked(packed[split:], rows * shape[2]).reshape(shape)
        symbols: np.ndarray = (turned + turns) & self._mask
        return symbols

    def _packed_size(self, count: int) -> int:
        return -(-count // self._a_byte)

    def _packed(self, symbols: np.ndarray) -> bytes:
        """Symbols in row-major order, the first of a byte in its low bits, 0 after the last."""
        if self._a_byte == 1:
            return symbols.tobytes()
        flat = np.zeros(self._packed_size(symbols.size) * self._a_byte, np.uint8)
        flat[: symbols.size] = symbols.reshape(-1)
        # As wide words: symbol i stands at bit 8 i and moves down to bit `spacing` i.
        words = flat.view(self._word)
        packed = words.copy()
        for index in range(1, self._a_byte):
            packed |= words >> (8 - self._spacing) * index
        return packed.astype(np.uint8).tobytes()

    def _unpacked(self, packed: np.ndarray, count: int) -> np.ndarray:
        if self._a_byte == 1:
            return packed & self._mask
        words = packed.astype(self._word)
        spread = words.copy()
        for index in range(1, self._a_byte):
            spread |= words << (8 - self._spacing) * index
        return spread.view(np.uint8)[:count] & self._mask
