"""The size for estimates: found where honest files have it, at a constant cost, never raising."""

from __future__ import annotations

import io
import random
import time

import numpy as np
import pytest
from PIL import Image

from common.vision.headers import JPEG_MAGIC, PNG_MAGIC, peek_size
from common.vision.limits import decode_deadline_seconds


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"icc_profile": bytes(500_000)}])
def test_the_size_of_an_honest_file_is_found(options: dict[str, object]) -> None:
    assert peek_size(encoded("JPEG", **options)) == (30, 20)
    assert peek_size(encoded("PNG")) == (30, 20)


def test_nothing_raises() -> None:
    generator = random.Random(0)
    for data in (encoded("JPEG"), encoded("PNG")):
        for length in range(len(data)):
            peek_size(data[:length])
            damaged = bytearray(data)
            damaged[length] = generator.randrange(256)
            peek_size(bytes(damaged))
    for start in (b"", JPEG_MAGIC, PNG_MAGIC):
        assert peek_size(start) is None


@pytest.mark.parametrize("unit", [b"\xff", b"\xff\xe0\x00\x02", b"\xff\x01", b"\x00"])
def test_a_long_file_costs_no_more_than_a_short_one(unit: bytes) -> None:
    data = JPEG_MAGIC[:2] + unit * ((32 << 20) // len(unit))

    def cpu_seconds() -> float:
        started = time.thread_time()
        assert peek_size(data) is None
        return time.thread_time() - started

    # Whoever shares the core slows it down now and then, but not each time.
    assert min(cpu_seconds() for _ in range(5)) < 0.05


def test_deadlines_grow_with_pixels_and_bytes() -> None:
    assert decode_deadline_seconds(48_000_000, 60 << 20) > 20
    assert decode_deadline_seconds(640 * 480, 200_000) < 3
