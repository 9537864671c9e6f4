"""Limits on what decoding may cost: each is named, and finding out costs next to nothing."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, PixelFormat, RawImage
from common.vision.decode import decode_image
from common.vision.headers import read_header
from common.vision.limits import DecodingLimits
from tests.poison import (
    PNG_MAGIC,
    chunk,
    jpeg_of_empty_scans,
    jpeg_start,
    png,
    segment,
    zeros_in_text,
)

MAX_PIXELS = 50_000_000
LARGEST_MESSAGE_BYTES = 64 << 20
TINY_JPEG = jpeg_start(8, 8) + b"\xff\xd9"


def seconds(work: Callable[[], object]) -> float:
    """Of CPU time, the least of three."""
    took = []
    for _ in range(3):
        started = time.process_time()
        work()
        took.append(time.process_time() - started)
    return min(took)


REFUSED = {
    "scans, 25 kB": (jpeg_of_empty_scans(7000, 7000, 2500), "limit is 800000000 pixels in all"),
    "scans, 300 kB": (jpeg_of_empty_scans(7000, 7000, 30_000), "limit is 800000000 pixels in all"),
    "scans, small": (jpeg_of_empty_scans(100, 100, 65), "more scans than the limit of 64"),
    "50 scans of 48 MP": (jpeg_of_empty_scans(8000, 6000, 50), "limit is 800000000"),
    "tall PNG": (png(1, 1_000_000), "64 times as long"),
    "wide PNG": (png(1_000_000, 1), "64 times as long"),
    "65:1": (jpeg_start(650, 10) + b"\xff\xd9", "64 times as long"),
    "large JPEG": (jpeg_start(65500, 65500) + b"\xff\xd9", "limit is 50000000"),
    "large interlaced PNG": (png(60000, 60000, is_interlaced=True, rows=b""), "limit is 50000000"),
    "widest PNG": (png(2**31 - 1, 2**31 - 1, rows=b""), "limit is 50000000"),
    "profiles": (
        TINY_JPEG[:2] + segment(0xE2, bytes(65000)) * 130 + TINY_JPEG[2:],
        "limit of 8388",
    ),
    "between scans": (TINY_JPEG[:-2] + segment(0xFE, bytes(65000)) * 130 + b"\xff\xd9", "8388608"),
    "PNG text": (png(9, 9, extra=chunk(b"tEXt", b"a\0") * 5000), "more parts.*limit of 4096"),
    "PNG animation": (png(9, 9, extra_after=chunk(b"fdAT", bytes(1 << 20)) * 9), "8388608"),
    "too much data": (png(9, 9, rows=bytes(90_000_000)), "more compressed data than"),
    "pieces": (png(5000, 5000, extra=chunk(b"IDAT", b"") * 40_000), "chunks than the limit"),
    "impossible depth": (png(9, 9, depth=3, rows=b""), "3 bits"),
    "no bits at all": (png(9, 9, colour_type=0, depth=0, rows=b""), "0 bits"),
    "lossless": (jpeg_start(80, 80, marker=0xC3) + b"\xff\xd9", "lossless"),
    "JPEG-LS": (jpeg_start(80, 80, marker=0xF7) + b"\xff\xd9", "lossless"),
    "12 bits": (jpeg_start(80, 80, marker=0xC1, precision=12) + b"\xff\xd9", "12 bits"),
    "ends at once": (b"\xff\xd8" + b"\xff\xd9" * 10, "ends before its picture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_limit_is_named(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(InvalidInputError, match=message) as refused:
        read_header(data, MAX_PIXELS)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("width", [64, 1])
def test_one_side_may_be_64_times_the_other(width: int) -> None:
    data = png(width, 65 - width)
    assert decode_image(EncodedImage(data), MAX_PIXELS).shape == (65 - width, width, 3)
    raw = RawImage(650, 10, PixelFormat.GRAY8, bytes(6500))
    with pytest.raises(InvalidInputError, match="650 x 10 pixels; .*64 times"):
        decode_image(raw, MAX_PIXELS)
    assert decode_image(raw, MAX_PIXELS, DecodingLimits(aspect_ratio=65)).shape == (10, 650, 3)


def test_honest_progressive_files_pass() -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", progressive=True, quality=95)
    assert read_header(buffer.getvalue(), MAX_PIXELS).size == (640, 480)
    assert read_header(jpeg_of_empty_scans(4000, 3000, 50), MAX_PIXELS).size == (4000, 3000)
    # What 48 megapixels need at the usual ten scans.
    assert read_header(jpeg_of_empty_scans(8000, 6000, 12), MAX_PIXELS).decode_seconds > 0.5


FILLED = {
    "markers": (TINY_JPEG[:2], segment(0xE0, b""), TINY_JPEG[2:]),
    "bare markers": (TINY_JPEG[:2], b"\xff\x01", TINY_JPEG[2:]),
    "fill bytes": (TINY_JPEG[:2], b"\xff", TINY_JPEG[2:]),
    "zeros": (TINY_JPEG[:2], b"\0", TINY_JPEG[2:]),
    "scan of zeros": (jpeg_start(7000, 7000), b"\0", b"\xff\xd9"),
    "scan of stuffed bytes": (jpeg_start(7000, 7000), b"\xff\0", b"\xff\xd9"),
    "scan of restarts": (jpeg_start(7000, 7000), b"\xff\xd0", b"\xff\xd9"),
    "scan of fill bytes": (jpeg_start(7000, 7000), b"\xff", b"\xff\xd9"),
    "scan of bare markers": (jpeg_start(7000, 7000), b"\xff\0" * 900 + b"\xff\x01", b"\xff\xd9"),
    "texts": (png(9, 9)[:33], chunk(b"tEXt", b""), png(9, 9)[33:]),
    "pieces": (png(7000, 6000, rows=b"")[:33], chunk(b"IDAT", b""), png(9, 9)[33:]),
}


@pytest.mark.parametrize("name", FILLED)
def test_the_walk_is_fast_whatever_fills_the_largest_message(name: str) -> None:
    start, unit, end = FILLED[name]
    data = start + unit * ((LARGEST_MESSAGE_BYTES - 1000) // len(unit)) + end

    def walk() -> None:
        with contextlib.suppress(InvalidInputError):
            read_header(data, MAX_PIXELS)

    # One look at each byte, as the fastest way to do anything with it, is the measure: the walk
    # of old took 6.6 s for the markers.
    look = seconds(lambda: np.frombuffer(data, np.uint8).max())
    assert seconds(walk) < 0.1 + 10 * look


def test_chunks_that_are_no_picture_cost_nothing() -> None:
    """libpng inflates each to 8 MB: 10 s for 500 of them, 4 MB of file."""
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(struct.pack(">I", 10**7) + bytes(10**7)))
    data = png(20, 10, extra=zeros_in_text() * 200 + profile, extra_after=zeros_in_text() * 200)
    assert seconds(lambda: decode_image(EncodedImage(data), MAX_PIXELS)) < 0.2


def test_leaving_chunks_out_does_not_change_the_picture(picture: Callable) -> None:
    """As OpenCV decodes the whole file, for every kind of PNG."""
    rgb = Image.fromarray(picture(40, 50))
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 1000, zip=True)
    kinds = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    for kind in kinds:
        image = rgb.convert("L").convert("I;16") if kind == "I;16" else rgb.convert(kind)
        options = {"transparency": 3} if kind == "P" else {}
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=info, dpi=(72, 72), gamma=0.45, **options)
        data = buffer.getvalue()
        whole = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
        decoded = decode_image(EncodedImage(data), MAX_PIXELS)
        np.testing.assert_array_equal(decoded, whole[..., ::-1], err_msg=kind)


def test_of_an_animation_the_still_picture_is_decoded(picture: Callable) -> None:
    still, other = picture(20, 30), picture(40, 30)[20:]
    plain = io.BytesIO()
    Image.fromarray(still).save(plain, "PNG")
    data = plain.getvalue()
    control = chunk(b"acTL", struct.pack(">II", 1, 0))
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 30, 20, 0, 0, 1, 1, 0, 0))
    rows = b"".join(b"\0" + row.tobytes() for row in other)
    played = chunk(b"fdAT", struct.pack(">I", 1) + zlib.compress(rows))
    animated = data[:33] + control + data[33:-12] + frame + played + data[-12:]
    np.testing.assert_array_equal(decode_image(EncodedImage(animated), MAX_PIXELS), still)


def test_what_follows_the_end_does_not_count() -> None:
    appended = segment(0xDA, bytes(6)) * 10_000
    data = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    assert decode_image(EncodedImage(data + appended), MAX_PIXELS).shape == (20, 30, 3)
    assert decode_image(EncodedImage(png(30, 20) + appended), MAX_PIXELS).shape == (20, 30, 3)
    assert PNG_MAGIC not in appended
