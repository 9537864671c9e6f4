"""Size and completeness of JPEG and PNG files, read from their bytes without decoding.

Own code, because the size must be the one that the decoder will find, or a crafted file passes
the size limit and fills the memory: so markers are walked as libjpeg walks them. It also refuses
incomplete files, of which libjpeg makes up the rest and libpng writes to the process's stderr.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple, Optional

from common.domain.errors import InvalidInputError

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

_JPEG_END_OF_IMAGE = b"\xff\xd9"
_JPEG_START_OF_SCAN = 0xDA
# SOF0 to SOF15, less the three codes in their midst that are DHT, JPG and DAC.
_JPEG_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# TEM and RST0 to RST7 stand alone; every other marker is followed by its length.
_JPEG_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD8)) | {0x01}


class ImageSize(NamedTuple):
    """Pixels."""

    width: int
    height: int


# More than any camera writes before the frame header; each is one look at a few bytes.
_PEEKED_SEGMENTS = 256


def peek_size(data: bytes) -> Optional[ImageSize]:
    """What size a JPEG or PNG file claims, at a constant cost whatever its length; never raises.

    For estimates only: nothing else of the file is looked at, so it may well be malformed.

    Returns:
        None if that is not to be found where honest files have it.
    """
    try:
        if data.startswith(PNG_MAGIC):
            return ImageSize(*struct.unpack_from(">II", data, 16))
        if data.startswith(JPEG_MAGIC):
            return _peek_jpeg_size(data)
    except (struct.error, IndexError):
        pass
    return None


def _peek_jpeg_size(data: bytes) -> Optional[ImageSize]:
    position = 2
    for _ in range(_PEEKED_SEGMENTS):
        marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
        if data[position] != 0xFF or marker == _JPEG_START_OF_SCAN:
            return None
        if marker in _JPEG_START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return ImageSize(width, height)
        if marker == 0xFF:
            position += 1
        else:
            position += 2 if marker in _JPEG_WITHOUT_LENGTH else 2 + length
    return None


def read_size(data: bytes) -> ImageSize:
    """Size of a complete JPEG or PNG file.

    Raises:
        InvalidInputError: neither JPEG nor PNG, malformed, cut off or (PNG) damaged.
    """
    if data.startswith(JPEG_MAGIC):
        return _read_jpeg_size(data)
    if data.startswith(PNG_MAGIC):
        return _read_png_size(data)
    raise InvalidInputError(
        "the image is empty" if not data else "the image is neither JPEG nor PNG"
    )


def _read_jpeg_size(data: bytes) -> ImageSize:
    """Walk the markers to the frame header, then make sure that the image ends (ITU-T T.81)."""
    size = None
    position = 2
    while True:
        position = _next_jpeg_marker(data, position)
        marker = data[position]
        position += 1
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        if marker == _JPEG_START_OF_SCAN:
            break
        if position + 2 > len(data):
            raise InvalidInputError("the JPEG image is cut off in its header")
        if marker in _JPEG_START_OF_FRAME and size is None:
            if position + 7 > len(data):
                raise InvalidInputError("the JPEG image is cut off in its header")
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = ImageSize(width, height)
        position += max(2, struct.unpack_from(">H", data, position)[0])
    if size is None:
        raise InvalidInputError("the JPEG image has no frame header")
    if data.find(_JPEG_END_OF_IMAGE, position) < 0:
        raise InvalidInputError("the JPEG image is cut off")
    return size


def _next_jpeg_marker(data: bytes, position: int) -> int:
    """Position of the next marker's code; like libjpeg, skips what stands before its 0xFF."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0:
            raise InvalidInputError("the JPEG image is cut off in its header")
        while position < len(data) and data[position] == 0xFF:
            position += 1
        if position == len(data):
            raise InvalidInputError("the JPEG image is cut off in its header")
        if data[position] != 0:
            return position


def _read_png_size(data: bytes) -> ImageSize:
    """Check every chunk's checksum up to IEND (PNG specification, sections 5 and 11.2)."""
    size = None
    position = len(PNG_MAGIC)
    kind = b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise InvalidInputError("the PNG image is cut off")
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            raise InvalidInputError("the PNG image is cut off")
        (expected,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != expected:
            raise InvalidInputError("the PNG image is damaged: a checksum does not match")
        if size is None:
            if kind != b"IHDR" or length != 13:
                raise InvalidInputError("the PNG image does not begin with a header")
            size = ImageSize(*struct.unpack_from(">II", data, position + 8))
        position = end
    if size is None:
        raise InvalidInputError("the PNG image does not begin with a header")
    return size
