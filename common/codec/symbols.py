"""Quantised values to bytes and back: a layout of symbols, and the coder that it is made for.

The coder is one zstd frame (RFC 8878) with its content's size and checksum.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np
import zstandard

from common.domain.errors import InvalidInputError

# How many symbols share a byte, by the bits of a symbol.
_SYMBOLS_A_BYTE = {2: 4, 3: 2, 4: 2, 5: 1, 6: 1, 8: 1}
# A separate Huffman code costs about 100 bytes, and saves more than that from this many bytes on.
_PART_BYTES = 12_000
_MOST_PARTS = 8

# Only zstd's Huffman codes are of use here. Quantised features hardly repeat, and matches that turn
# up by chance cost more than they save: so zstd looks only for long ones, with the least effort.
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

    - Channels are sorted by their means in this frame, and every few of them get a code of their
      own. The means differ from frame to frame, so that a code for unsorted channels, or one made
      from other frames, costs 10 to 20 % more than a code for each channel would.
    - Several symbols share a byte where they fit. A code over bytes then spends fractions of a bit
      on a symbol, and codes neighbouring cells, which are alike, together.
    """

    def __init__(self, bits: int) -> None:
        """Lay out symbols of 2, 3, 4, 5, 6 or 8 bits."""
        self.levels = 1 << bits
        self._mask = np.uint8(self.levels - 1)
        self._a_byte = _SYMBOLS_A_BYTE[bits]
        self._spacing = 8 // self._a_byte
        self._word = np.dtype(f"<u{self._a_byte}")

    def size(self, rows: int, cells: int) -> int:
        """The number of bytes that rows of cells take in this layout."""
        return rows + self._packed_size(rows * cells)

    def to_parts(self, symbols: np.ndarray) -> List[bytes]:
        """Lay symbols out as bytes.

        Args:
            symbols: uint8 [frames,channels,cells] below `levels`; at least one.

        Returns:
            The mean of each row, scaled to a byte; then the packed rows by increasing mean, in
            parts that are each worth a separate code.
        """
        cells = symbols.shape[-1]
        rows = symbols.reshape(-1, cells)
        totals = rows.sum(axis=1, dtype=np.uint64)
        means = (totals * (256 // self.levels) // cells).astype(np.uint8)
        packed = self._packed(rows[_order(means)])
        parts = min(max(len(packed) // _PART_BYTES, 1), _MOST_PARTS)
        return [means.tobytes(), *(part.tobytes() for part in np.array_split(packed, parts))]

    def from_bytes(self, data: bytes, shape: Tuple[int, int, int]) -> np.ndarray:
        """Restore symbols of a shape [frames,channels,cells] from the joined parts of `to_parts`.

        Returns:
            uint8 symbols, every one below `levels`, whatever the bytes are.
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
        """Pack symbols in row-major order, the first of each byte in its low bits, then zeros."""
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
    """The indices of the rows by increasing mean; rows of equal mean keep their order."""
    return np.argsort(means, kind="stable")


def compress(parts: Sequence[bytes]) -> bytes:
    """Compress the joined parts, each with a code of its own."""
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
    """Undo `compress`, allocating at most `expected_bytes` for the content.

    Raises:
        InvalidInputError: the data is no zstd frame, declares another size, is corrupt, or goes on
            after the frame's end.
    """
    try:
        # Decompressing allocates the declared size at once, so check it first.
        declared_bytes = zstandard.frame_content_size(data)
        if declared_bytes != expected_bytes:
            declared = "does not say its size" if declared_bytes < 0 else f"has {declared_bytes}"
            raise InvalidInputError(
                f"the payload should hold {expected_bytes} bytes compressed, but it {declared}"
            )
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InvalidInputError(f"the payload's {len(data)} bytes are corrupt: {error}") from error
