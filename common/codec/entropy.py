"""The entropy coder: one zstd frame (RFC 8878) with its content's size and checksum."""

from __future__ import annotations

import zstandard

from common.domain.errors import InvalidInputError

# Higher levels search for repetitions, which quantised features hardly have; Huffman codes do
# the work, and the first level has them.
_LEVEL = 1


def compress(content: bytes) -> bytes:
    """Compress; nothing stays nothing."""
    if not content:
        return b""
    # Made anew each time: a compressor must not be used by two threads at once, and making one
    # takes microseconds.
    compressor = zstandard.ZstdCompressor(
        level=_LEVEL, write_checksum=True, write_content_size=True
    )
    return compressor.compress(content)


def decompress(data: bytes, expected_bytes: int) -> bytes:
    """Undo `compress`; no more than `expected_bytes` are ever allocated for the content.

    Raises:
        InvalidInputError: it is no zstd frame, says another size, is corrupt, or goes on after
            its end.
    """
    if not data and not expected_bytes:
        return b""
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
