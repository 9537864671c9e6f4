"""The entropy coder: one zstd frame (RFC 8878) with its content's size and checksum."""

from __future__ import annotations

from typing import List, Sequence

import zstandard

from common.domain.errors import InvalidInputError

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
