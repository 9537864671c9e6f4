"""Decoding: what comes out, and that bad input ends in one clear sentence."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, PixelFormat, RawImage
from common.vision.decode import decode_file, decode_image, may_be_halved
from common.vision.headers import read_header
from common.vision.limits import ImageSize
from common.vision.resize import resize_bilinear

if TYPE_CHECKING:
    Picture = Callable[[int, int], np.ndarray]

LIMIT = 1_000_000


def encoded(pixels: np.ndarray, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes, max_pixels: int = LIMIT) -> np.ndarray:
    return decode_image(EncodedImage(data), max_pixels)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}]
)
def test_jpeg_decodes_to_the_very_pixels_that_pil_gives(
    picture: Picture, options: dict[str, object]
) -> None:
    data = encoded(picture(61, 87), quality=90, **options)
    pixels = decode(data)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_png_is_lossless_rgb(picture: Picture) -> None:
    original = picture(33, 47)
    np.testing.assert_array_equal(decode(encoded(original, "PNG")), original)


def test_alpha_is_dropped(picture: Picture) -> None:
    rgba = np.dstack([picture(8, 9), np.full((8, 9), 40, np.uint8)])
    np.testing.assert_array_equal(decode(encoded(rgba, "PNG")), rgba[..., :3])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_is_repeated(picture: Picture, kind: str) -> None:
    pixels = decode(encoded(picture(8, 9)[..., 0], kind))
    assert pixels.shape == (8, 9, 3)
    assert (pixels == pixels[..., :1]).all()


def test_16_bit_png_keeps_its_high_bytes(picture: Picture) -> None:
    low = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint16)
    high = picture(8, 9)
    done, data = cv2.imencode(".png", (high[..., ::-1].astype(np.uint16) << 8) | low)
    assert done
    np.testing.assert_array_equal(decode(data.tobytes()), high)


def test_exif_orientation_is_ignored(picture: Picture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(picture(20, 30), exif=exif)).shape == (20, 30, 3)


def test_a_thumbnail_in_exif_is_not_taken_for_the_image(picture: Picture) -> None:
    thumbnail = encoded(picture(8, 8))
    data = encoded(picture(20, 30), exif=b"Exif\x00\x00" + thumbnail)
    assert decode(data).shape == (20, 30, 3)
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(InvalidInputError, match="cut off"):
        decode(data[: scan + 40])


def test_bytes_after_the_image_do_no_harm(picture: Picture) -> None:
    assert decode(encoded(picture(20, 30)) + b"appended by a camera").shape == (20, 30, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_truncation_is_refused(
    picture: Picture, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encoded(picture(24, 24), kind)
    for length in range(len(data)):
        with pytest.raises(InvalidInputError):
            decode(data[:length])
    # libjpeg and libpng would have written their complaints here.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"GIF89a", "neither JPEG nor PNG"),
        (b"\xff\xd8\xff" + bytes(50), "cut off in its header"),
        (b"\xff\xd8\xff\xda" + bytes(50), "no frame header"),
        (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IDAT", b"x"), "does not begin with a header"),
        (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IEND", b""), "does not begin with a header"),
    ],
)
def test_malformed_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        decode(data)


def test_a_damaged_png_is_refused(picture: Picture) -> None:
    data = bytearray(encoded(picture(24, 24), "PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(InvalidInputError, match="damaged"):
        decode(bytes(data))


def test_a_png_with_sound_chunks_but_no_picture_is_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IEND", b"")
    with pytest.raises(InvalidInputError, match="cannot be decoded"):
        decode(data)


def test_too_large_is_refused_before_decoding() -> None:
    # The header promises 900 megapixels; there is no picture data that could be decoded.
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IEND", b"")
    with pytest.raises(InvalidInputError, match="30000 x 30000 pixels.*limit is 1000000"):
        decode(data)


def test_the_limit_itself_is_allowed(picture: Picture) -> None:
    data = encoded(picture(20, 30))
    assert decode(data, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(InvalidInputError, match="limit is 599"):
        decode(data, max_pixels=599)


def test_a_frame_header_hidden_between_segments_does_not_mislead(picture: Picture) -> None:
    # libjpeg skips what stands between segments; a reader that does not would see 8 x 8 here.
    data = encoded(picture(200, 300))
    end_of_first_segment = 4 + int.from_bytes(data[4:6], "big")
    decoy = bytes([0xC0, 0, 17, 8, 0, 8, 0, 8, 3])
    data = data[:end_of_first_segment] + decoy + data[end_of_first_segment:]
    with pytest.raises(InvalidInputError, match="300 x 200 pixels"):
        decode(data, max_pixels=1000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_zero_dimensions_are_refused(picture: Picture, kind: str) -> None:
    if kind == "PNG":
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 4, 8, 2, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IEND", b"")
    else:
        jpeg = bytearray(encoded(picture(16, 16)))
        frame_header = jpeg.index(b"\xff\xc0")
        jpeg[frame_header + 7 : frame_header + 9] = b"\0\0"
        data = bytes(jpeg)
    with pytest.raises(InvalidInputError, match="both must be at least 1"):
        decode(data)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_raw_frames(picture: Picture, pixel_format: PixelFormat) -> None:
    rgb = picture(5, 7)
    grey = np.repeat(rgb[..., :1], 3, axis=2)
    sent, expected = {
        PixelFormat.RGB8: (rgb, rgb),
        PixelFormat.BGR8: (rgb[..., ::-1], rgb),
        PixelFormat.GRAY8: (rgb[..., 0], grey),
    }[pixel_format]
    pixels = decode_image(RawImage(7, 5, pixel_format, sent.tobytes()), LIMIT)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("width", "height", "size", "message"),
    [
        (4, 3, 35, "has 36 bytes, got 35"),
        (4, 3, 37, "has 36 bytes, got 37"),
        (0, 3, 0, "both must be at least 1"),
        (4, -1, 0, "both must be at least 1"),
        (2000, 2000, 0, "limit is 1000000"),
    ],
)
def test_bad_raw_frames_are_refused(width: int, height: int, size: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        decode_image(RawImage(width, height, PixelFormat.RGB8, bytes(size)), LIMIT)


@pytest.mark.parametrize(
    ("kind", "size", "wanted", "expected"),
    [
        ("JPEG", (500, 250), (200, 100), True),
        ("JPEG", (498, 250), (200, 100), False),
        ("JPEG", (500, 248), (200, 100), False),
        # An odd side would be rounded up.
        ("JPEG", (501, 250), (200, 100), False),
        ("JPEG", (500, 251), (200, 100), False),
        # libpng has nothing to leave out.
        ("PNG", (500, 250), (200, 100), False),
    ],
)
def test_what_is_decoded_to_half_its_size(
    kind: str, size: tuple[int, int], wanted: tuple[int, int], expected: bool
) -> None:
    width, height = size
    data = encoded(np.zeros((height, width, 3), np.uint8), kind)
    header = read_header(data, LIMIT)
    assert may_be_halved(header, ImageSize(*wanted)) is expected


@pytest.mark.parametrize("kind", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}])
def test_a_halved_jpeg_is_near_the_whole_one(picture: Picture, kind: dict[str, object]) -> None:
    data = encoded(picture(480, 640), quality=90, **kind)
    size = ImageSize(640, 480)
    whole, halved = (
        decode_file(np.frombuffer(data, np.uint8), size, each) for each in (False, True)
    )
    assert halved.shape == (240, 320, 3)
    for height, width, mean_bound in ((192, 256, 3.5), (120, 160, 1.5), (60, 80, 0.8)):
        resized = [resize_bilinear(each, height, width).astype(int) for each in (whole, halved)]
        assert np.abs(resized[0] - resized[1]).mean() <= mean_bound


def test_a_turned_grey_jpeg_is_halved_as_it_lies() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    data = encoded(np.full((80, 160), 99, np.uint8), quality=95, exif=exif)
    halved = decode_file(np.frombuffer(data, np.uint8), ImageSize(160, 80), halved=True)
    assert halved.shape == (40, 80, 3)
    assert np.abs(halved.astype(int) - 99).max() <= 2
