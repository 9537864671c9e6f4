"""Pictures that cost their receiver far more than their sender. Runs on Python 3.8."""

import struct
import zlib
from typing import Optional

import numpy as np

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def segment(marker: int, content: bytes) -> bytes:
    """A JPEG's marker with its segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_start(width: int, height: int, marker: int = 0xC2, precision: int = 8) -> bytes:
    """A grey JPEG up to its first scan, which is empty; progressive if not said otherwise."""
    frame = struct.pack(">BHHB", precision, height, width, 1) + bytes([1, 0x11, 0])
    # One code, of one bit: a difference of 0, or the end of the block.
    codes = b"".join(segment(0xC4, bytes([kind, 1, *bytes(15), 0])) for kind in (0x00, 0x10))
    return (
        b"\xff\xd8"
        + segment(marker, frame)
        + segment(0xDB, b"\0" + bytes([1] * 64))
        + codes
        + segment(0xDA, bytes([1, 1, 0, 0, 0, 0]))
    )


def jpeg_of_empty_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG; each scan is of ten bytes, and libjpeg visits every block for it."""
    scan = segment(0xDA, bytes([1, 1, 0, 1, 63, 0]))
    return jpeg_start(width, height) + scan * (scans - 1) + b"\xff\xd9"


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG's chunk."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour_type: int = 2,
    is_interlaced: bool = False,
    rows: Optional[bytes] = None,
    extra: bytes = b"",
    extra_after: bytes = b"",
) -> bytes:
    """A PNG; black unless its filtered rows are given.

    Args:
        extra: chunks between header and picture.
        extra_after: chunks behind the picture.
    """
    if rows is None:
        row_bytes = (width * _PNG_SAMPLES[colour_type] * depth + 7) // 8
        rows = bytes((row_bytes + 1) * height * (2 if is_interlaced else 1))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, is_interlaced)
    palette = chunk(b"PLTE", bytes(768)) if colour_type == 3 else b""
    picture = chunk(b"IDAT", zlib.compress(rows, 1))
    parts = (chunk(b"IHDR", header), extra, palette, picture, extra_after, chunk(b"IEND", b""))
    return PNG_MAGIC + b"".join(parts)


def zeros_in_text(inflated_bytes: int = 8_000_000 - 16) -> bytes:
    """A PNG's chunk of compressed text that libpng inflates a thousandfold."""
    return chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(inflated_bytes), 9))


def endless_png(inflated_bytes: int, side: int = 10) -> bytes:
    """A small square PNG; libpng inflates what follows its rows, only to throw it away."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    data = b"\x78\xda" + mebibyte * (inflated_bytes >> 20)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return PNG_MAGIC + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def large_png(width: int = 8000, height: int = 6000) -> bytes:
    """An honest one of 48 megapixels, of noisy stripes: 9 MB."""
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    # Each row is the difference from the one above.
    rows[:, 0] = 2
    rows[::8, 1:] = np.random.default_rng(0).integers(0, 8, (height // 8, 3 * width))
    return png(width, height, rows=rows.tobytes())
