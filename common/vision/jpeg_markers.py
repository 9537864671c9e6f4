"""A JPEG file's markers (ITU-T T.81, annex B), walked as libjpeg walks them."""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional, Tuple

import numpy as np

from common.domain.errors import InvalidInputError
from common.vision.limits import (
    DecodingLimits,
    ImageSize,
    check_header_bytes,
    check_segments,
    check_size,
)

JPEG_MAGIC = b"\xff\xd8\xff"

_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
# SOF0 to SOF15, less the three codes in their midst that are DHT, JPG and DAC; and JPEG-LS's.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
# Baseline, extended and progressive, by Huffman or arithmetic codes. The rest is lossless or
# hierarchical.
_DECODABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
# TEM, RST0 to RST7 and SOI stand alone; every other marker is followed by its length.
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}

# No camera writes as many segments before the frame header.
_PEEKED_SEGMENTS = 256
# Bytes searched at a time, which grow to what the processor's caches hold.
_FIRST_SEARCH_BYTES = 1 << 12
_LARGEST_SEARCH_BYTES = 1 << 18
# In compressed data one byte of 256 is 0xFF. As long as they are rarer than one of this many, each
# is looked at by itself.
_SPARSE = 64


class JpegHeader(NamedTuple):
    """A complete file: the size in its first frame header, its number of scans, and its end."""

    size: ImageSize
    scans: int
    end: int

    @property
    def parts(self) -> Tuple[Tuple[int, int], ...]:
        """The range that the decoder reads: everything up to the end-of-image marker."""
        return ((0, self.end),)


def read_jpeg_header(data: bytes, max_pixels: int, limits: DecodingLimits) -> JpegHeader:
    """Walk all markers up to the end of the image.

    Raises:
        InvalidInputError: the file is malformed, cut off, of a kind that is not decoded, or exceeds
            a limit.
    """
    size: Optional[ImageSize] = None
    scans = segments = header_bytes = 0
    position = 2
    while True:
        # Before the first scan, what stands between the markers is header as well.
        last = len(data) if scans else position + limits.header_bytes - header_bytes + 1
        code = _next_marker(data, position, min(last, len(data)))
        if code is None:
            check_header_bytes(min(last, len(data)) - position + header_bytes, limits)
            raise InvalidInputError(
                "the JPEG image is cut off" if scans else "the JPEG image is cut off in its header"
            )
        if not scans:
            header_bytes += code - position
        marker, position = data[code], code + 1
        segments += 1
        check_segments(segments, limits)
        if marker == _END_OF_IMAGE:
            break
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _START_OF_SCAN:
            if size is None:
                raise InvalidInputError("the JPEG image has no frame header")
            scans += 1
            _check_scans(scans, size, limits)
        if marker in _START_OF_FRAME and size is None:
            size = _frame_size(data, code)
            check_size(size, max_pixels, limits)
        length = _segment_bytes(data, position)
        header_bytes += length
        check_header_bytes(header_bytes, limits)
        position += length
    if size is None or not scans:
        raise InvalidInputError("the JPEG image ends before its picture")
    return JpegHeader(size, scans, position)


def peek_jpeg_size(data: bytes) -> Optional[ImageSize]:
    """The size in the first frame header; None if anything but plain segments comes before it.

    Raises:
        IndexError, struct.error: the file ends before.
    """
    position = 2
    for _ in range(_PEEKED_SEGMENTS):
        marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
        if data[position] != 0xFF or marker == _START_OF_SCAN:
            return None
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return ImageSize(width, height)
        if marker == 0xFF:
            position += 1
        else:
            position += 2 if marker in _WITHOUT_LENGTH else 2 + length
    return None


def _check_scans(scans: int, size: ImageSize, limits: DecodingLimits) -> None:
    if scans > limits.scans:
        raise InvalidInputError(
            f"the JPEG image has more scans than the limit of {limits.scans} (it is progressive)"
        )
    if scans * size.width * size.height > limits.scan_pixels and scans > 1:
        raise InvalidInputError(
            f"the JPEG image of {size.width} x {size.height} pixels has {scans} scans or more; "
            f"the limit is {limits.scan_pixels} pixels in all scans together"
        )


def _frame_size(data: bytes, code: int) -> ImageSize:
    """Read a frame header: length (2 bytes), precision (1), height (2), width (2)."""
    if code + 8 > len(data):
        raise InvalidInputError("the JPEG image is cut off in its header")
    precision, height, width = struct.unpack_from(">BHH", data, code + 3)
    if data[code] not in _DECODABLE_FRAMES:
        raise InvalidInputError("the JPEG image is lossless or hierarchical, which is not decoded")
    if precision != 8:
        raise InvalidInputError(
            f"the JPEG image has {precision} bits a sample; only 8 bits are decoded"
        )
    return ImageSize(width, height)


def _segment_bytes(data: bytes, position: int) -> int:
    if position + 2 > len(data):
        raise InvalidInputError("the JPEG image is cut off in its header")
    return max(2, int.from_bytes(data[position : position + 2], "big"))


def _next_marker(data: bytes, position: int, end: int) -> Optional[int]:
    """The position of the next marker's code before `end`; restart markers are passed over.

    Like libjpeg it skips what stands before a marker, 0xFF bytes that fill, and 0xFF00, which is
    data.
    """
    if position + 1 < end and data[position] == 0xFF and _is_marker(data[position + 1]):
        return position + 1
    everything = np.frombuffer(data, np.uint8, count=end)
    size = _FIRST_SEARCH_BYTES
    while position + 1 < end:
        stop = min(position + size, end - 1)
        index = _first_marker(everything[position:stop], everything[position + 1 : stop + 1])
        if index is not None:
            return position + index + 1
        position = stop
        size = min(size * 16, _LARGEST_SEARCH_BYTES)
    return None


def _first_marker(first: np.ndarray, second: np.ndarray) -> Optional[int]:
    """The first index at which 0xFF is followed by a marker's code."""
    is_prefix = first == 0xFF
    if np.count_nonzero(is_prefix) * _SPARSE < len(first):
        places = np.flatnonzero(is_prefix)
        found = _are_markers(second[places])
        return int(places[found.argmax()]) if found.any() else None
    # With many 0xFF the whole array is compared at once, so that no content makes this slow.
    is_prefix &= _are_markers(second)
    return int(is_prefix.argmax()) if is_prefix.any() else None


def _are_markers(codes: np.ndarray) -> np.ndarray:
    # 1 to 0xFE: 0 becomes 0xFF.
    found = codes - np.uint8(1) < 0xFE
    found &= codes & 0xF8 != 0xD0
    return np.asarray(found)


def _is_marker(code: int) -> bool:
    return 0 < code < 0xFF and code & 0xF8 != 0xD0
