"""A PNG file's chunks (PNG specification, sections 5 and 11), walked as libpng walks them."""

from __future__ import annotations

import struct
import zlib
from typing import List, NamedTuple, Optional, Tuple

from common.domain.errors import InvalidInputError
from common.vision.limits import (
    DecodingLimits,
    ImageSize,
    check_header_bytes,
    check_segments,
    check_size,
)

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

# By colour type (grey, RGB, palette, grey and alpha, RGB and alpha): the samples of a pixel and the
# numbers of bits that a sample may have.
_COLOUR_TYPES = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}
# libpng writes chunks of 8 KiB, so that a file of 64 MiB has a quarter of this number.
_MOST_PICTURE_CHUNKS = 1 << 15
# A poor encoder can make compressed data longer than the pixels, but not by much.
_LARGEST_EXPANSION = 1.25
_EXPANSION_SLACK_BYTES = 1 << 16


class PngHeader(NamedTuple):
    """What the chunks of a complete file tell.

    Attributes:
        size: the size in its header.
        raw_bytes: the size of the rows once they are inflated.
        picture_bytes: the size of the compressed rows.
        parts: the ranges of the file that make up the picture. The rest is left out, because libpng
            would inflate texts and profiles of 8 MB each, and OpenCV would play an animation.
    """

    size: ImageSize
    raw_bytes: int
    picture_bytes: int
    parts: Tuple[Tuple[int, int], ...]


def read_png_header(data: bytes, max_pixels: int, limits: DecodingLimits) -> PngHeader:
    """Walk all chunks up to IEND, then check the checksums of those that the picture needs.

    Raises:
        InvalidInputError: the file is malformed, cut off or damaged, or exceeds a limit.
    """
    size: Optional[ImageSize] = None
    raw_bytes = picture_bytes = picture_chunks = header_bytes = header_chunks = 0
    needed: List[Tuple[int, int]] = []
    position, kind = len(PNG_MAGIC), b""
    while kind != b"IEND":
        length, kind = _chunk(data, position)
        end = position + 12 + length
        if size is None:
            if kind != b"IHDR" or length != 13:
                raise InvalidInputError("the PNG image does not begin with a header")
            size, raw_bytes = _read_size(data, position + 8)
            check_size(size, max_pixels, limits)
        if kind == b"IDAT":
            picture_bytes += length
            picture_chunks += 1
            _check_picture(picture_bytes, picture_chunks, raw_bytes)
        else:
            header_bytes += end - position
            header_chunks += 1
            check_header_bytes(header_bytes, limits)
            check_segments(header_chunks, limits)
        # A capital first letter marks a critical chunk.
        if kind[:1].isupper() or kind == b"tRNS":
            needed.append((position, end))
        position = end
    if size is None:
        raise InvalidInputError("the PNG image does not begin with a header")
    _check_checksums(data, needed)
    return PngHeader(size, raw_bytes, picture_bytes, _joined([(0, len(PNG_MAGIC)), *needed]))


def _chunk(data: bytes, position: int) -> Tuple[int, bytes]:
    """The length and the kind of the chunk that begins at a position."""
    if position + 12 > len(data):
        raise InvalidInputError("the PNG image is cut off")
    length, kind = struct.unpack_from(">I4s", data, position)
    if position + 12 + length > len(data):
        raise InvalidInputError("the PNG image is cut off")
    return length, kind


def _read_size(data: bytes, position: int) -> Tuple[ImageSize, int]:
    """The size of the picture, and the most bytes that all its rows can have."""
    width, height, depth, colour_type = struct.unpack_from(">IIBB", data, position)
    samples, depths = _COLOUR_TYPES.get(colour_type, (0, ()))
    if depth not in depths:
        raise InvalidInputError(
            f"the PNG image has colour type {colour_type} with {depth} bits, which is none of PNG's"
        )
    # Each row is preceded by its filter; interlaced, a row comes in up to two pieces.
    row_bytes = (width * samples * depth + 7) // 8
    return ImageSize(width, height), height * (row_bytes + 2)


def _check_picture(picture_bytes: int, chunks: int, raw_bytes: int) -> None:
    # What follows the last row libpng inflates as well, only to throw it away.
    if picture_bytes > _LARGEST_EXPANSION * raw_bytes + _EXPANSION_SLACK_BYTES:
        raise InvalidInputError(
            f"the PNG image has more compressed data than its {raw_bytes} bytes of pixels can need"
        )
    if chunks > _MOST_PICTURE_CHUNKS:
        raise InvalidInputError(
            f"the PNG image's data is in more chunks than the limit of {_MOST_PICTURE_CHUNKS}"
        )


def _check_checksums(data: bytes, chunks: List[Tuple[int, int]]) -> None:
    view = memoryview(data)
    for start, end in chunks:
        (expected,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[start + 4 : end - 4]) != expected:
            raise InvalidInputError("the PNG image is damaged: a checksum does not match")


def _joined(ranges: List[Tuple[int, int]]) -> Tuple[Tuple[int, int], ...]:
    """Join ranges that follow one another."""
    joined = [ranges[0]]
    for start, end in ranges[1:]:
        if start == joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)
