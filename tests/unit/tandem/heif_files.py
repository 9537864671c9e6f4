"""AVIF and HEIC files as phones make them: one picture out of tiles (ISO/IEC 23008-12, 6.6.2.3)."""

import io
import struct

import numpy as np
from PIL import Image


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind, version, flags, *parts):
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def tiled_avif(rgb, rows, columns, brand=b"avif"):
    """An AVIF file of equal tiles; `rgb` is [H,W,3], its sides divisible by their numbers."""
    tile_height, tile_width = rgb.shape[0] // rows, rgb.shape[1] // columns
    tiles = [
        _coded(rgb[y : y + tile_height, x : x + tile_width])
        for y in range(0, rgb.shape[0], tile_height)
        for x in range(0, rgb.shape[1], tile_width)
    ]
    configuration = tiles[0][1]
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, rgb.shape[1], rgb.shape[0])
    payloads = [grid, *(payload for payload, _ in tiles)]
    numbers = range(1, len(payloads) + 1)
    entries = [
        full_box(b"infe", 2, 0, struct.pack(">HH4sB", number, 0, kind, 0))
        for number, kind in zip(numbers, [b"grid"] + [b"av01"] * len(tiles), strict=True)
    ]
    properties = box(
        b"ipco",
        full_box(b"ispe", 0, 0, struct.pack(">II", rgb.shape[1], rgb.shape[0])),
        full_box(b"ispe", 0, 0, struct.pack(">II", tile_width, tile_height)),
        full_box(b"pixi", 0, 0, bytes([3, 8, 8, 8])),
        configuration,
    )
    associations = struct.pack(">HB2B", 1, 2, 1, 3)
    for number in numbers[1:]:
        associations += struct.pack(">HB3B", number, 3, 2, 3, 0x84)
    associated = full_box(b"ipma", 0, 0, struct.pack(">I", len(payloads)), associations)
    derived = box(b"dimg", struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *numbers[1:]))

    def meta(start):
        locations, position = b"", start
        for number, payload in zip(numbers, payloads, strict=True):
            locations += struct.pack(">HHHII", number, 0, 1, position, len(payload))
            position += len(payload)
        return full_box(
            b"meta",
            *(0, 0),
            full_box(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, 0, struct.pack(">H", 1)),
            full_box(b"iloc", 0, 0, struct.pack(">BBH", 0x44, 0, len(payloads)), locations),
            full_box(b"iinf", 0, 0, struct.pack(">H", len(entries)), *entries),
            full_box(b"iref", 0, 0, derived),
            box(b"iprp", properties, associated),
        )

    file_type = box(b"ftyp", brand, bytes(4), b"mif1", b"miaf", brand)
    start = len(file_type) + len(meta(0)) + 8
    return file_type + meta(start) + box(b"mdat", *payloads)


def _coded(rgb):
    """One tile's AV1 data and the box that configures its decoder, out of a file of its own."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, "AVIF", quality=90, speed=10)
    data = file.getvalue()
    at = data.index(b"av1C") - 4
    configuration = data[at : at + struct.unpack_from(">I", data, at)[0]]
    at = data.index(b"mdat") - 4
    return data[at + 8 : at + struct.unpack_from(">I", data, at)[0]], configuration
