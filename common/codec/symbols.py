"""Quantised values to bytes and back: a layout of symbols, and the coder that it is made for.

The coder is one zstd frame (RFC 8878) with its content's size and checksum.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np
import zstandard

from common.domain.errors import InvalidInputError

# Symbols that share a byte, by bits a symbol.
_SYMBOLS_A_BYTE = {2: 4, 3: 2, 4: 2, 5: 1, 6: 1, 8: 1}
# A code of its own costs about 100 bytes, and is worth that from so many bytes on.
_PART_BYTES = 12_000
_MOST_PARTS = 8

# What is wanted are Huffman codes. Quantised features hardly repeat, and the matches that turn up
# by chance cost more than they save: so look only for long ones, with the least effort.
_PARAMETERS = {
    "strategy": zstandard.STRATEGY_FAST,
    "min_match": 7,
    "hash_log": 6,
    "chain_log": 6,
    "search_log": 1,
    "window_log": 17,
    "target_length": 0,
}


class SymbolLayout:
    """The layout of symbols of `bits` bits, for an entropy coder over bytes.

    - Channels are put in the order of their means in this frame, and a code is made for each few
      of them. A frame moves the means about, so that a code for the channels as they come, or one
      made from other frames, costs 10 to 20 % more than one for each channel.
    - Several symbols share a byte, where they fit: a code over bytes then spends fractions of a
      bit on a symbol, and neighbouring cells, which are alike, are coded together.
    """

    def __init__(self, bits: int) -> None:
        """Lay out symbols of 2, 3, 4, 5, 6 or 8 bits."""
        self.levels = 1 << bits
        self._mask = np.uint8(self.levels - 1)
        self._a_byte = _SYMBOLS_A_BYTE[bits]
        self._spacing = 8 // self._a_byte
        self._word = np.dtype(f"<u{self._a_byte}")

    def size(self, rows: int, cells: int) -> int:
        """Bytes of the symbols of so many rows, each of so many cells."""
        return rows + self._packed_size(rows * cells)

    def to_parts(self, symbols: np.ndarray) -> List[bytes]:
        """Lay out symbols.

        Args:
            symbols: uint8 [frames,channels,cells] below `levels`; at least one.

        Returns:
            The mean of each row, scaled to a byte; then the rows by increasing mean, packed, in
            parts that are worth a code of their own.
        """
        cells = symbols.shape[-1]
        rows = symbols.reshape(-1, cells)
        totals = rows.sum(axis=1, dtype=np.uint64)
        means = (totals * (256 // self.levels) // cells).astype(np.uint8)
        packed = self._packed(rows[_order(means)])
        parts = min(max(len(packed) // _PART_BYTES, 1), _MOST_PARTS)
        return [means.tobytes(), *(part.tobytes() for part in np.array_split(packed, parts))]

    def from_bytes(self, data: bytes, shape: Tuple[int, int, int]) -> np.ndarray:
        """Symbols of a shape [frames,channels,cells] from the joined parts of `to_parts`.

        Returns:
            uint8, every one below `levels`, whatever the bytes are.
        """
        frames, channels, cells = shape
        rows = frames * channels
        content = np.frombuffer(data, np.uint8)
        ordered = self._unpacked(content[rows:], rows * cells).reshape(rows, cells)
        symbols = np.empty_like(ordered)
        symbols[_order(content[:rows])] = ordered
        return symbols.reshape(shape)

    def _packed_size(self, count: int) -> int:
        return -(-count // self._a_byte)

    def _packed(self, symbols: np.ndarray) -> np.ndarray:
        """Symbols in row-major order, the first of a byte in its low bits, 0 after the last."""
        if self._a_byte == 1:
            return symbols.reshape(-1)
        flat = np.zeros(self._packed_size(symbols.size) * self._a_byte, np.uint8)
        flat[: symbols.size] = symbols.reshape(-1)
        # As wide words: symbol i stands at bit 8 i and moves down to bit `spacing` i.
        words = flat.view(self._word)
        packed = words.copy()
        for index in range(1, self._a_byte):
            packed |= words >> (8 - self._spacing) * index
        return packed.astype(np.uint8)

    def _unpacked(self, packed: np.ndarray, count: int) -> np.ndarray:
        if self._a_byte == 1:
            return packed & self._mask
        words = packed.astype(self._word)
        spread = words.copy()
        for index in range(1, self._a_byte):
            spread |= words << (8 - self._spacing) * index
        return spread.view(np.uint8)[:count] & self._mask


def _order(means: np.ndarray) -> np.ndarray:
    """The rows by increasing mean; those of equal mean as they come."""
    return np.argsort(means, kind="stable")


def compress(parts: Sequence[bytes]) -> bytes:
    """Compress the parts, joined, each by a code of its own."""
    parameters = zstandard.ZstdCompressionParameters(
        write_content_size=True, write_checksum=True, **_PARAMETERS
    )
    # Made anew each time: two threads must not share a compressor, and making one takes
    # microseconds.
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj(
        size=sum(len(part) for part in parts)
    )
    compressed: List[bytes] = []
    for part in parts[:-1]:
        compressed.append(compressor.compress(part))
        compressed.append(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    compressed.append(compressor.compress(parts[-1]))
    compressed.append(compressor.flush())
    return b"".join(compressed)


def decompress(data: bytes, expected_bytes: int) -> bytes:
    """Undo `compress`; no more than `expected_bytes` are ever allocated for the content.

    Raises:
        InvalidInputError: it is no zstd frame, says another size, is corrupt, or goes on after
            its end.
    """
    try:
        # What a frame declares is allocated at once when it is decompressed, so check it first.
        declared_bytes = zstandard.frame_content_size(data)
        if declared_bytes != expected_bytes:
            declared = "does not say its size" if declared_bytes < 0 else f"has {declared_bytes}"
            raise InvalidInputError(
                f"the payload should hold {expected_bytes} bytes compressed, but it {declared}"
            )
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InvalidInputError(f"the payload's {len(data)} bytes are corrupt: {error}") from error
