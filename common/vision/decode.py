"""Decodes frames of clients to RGB pixels, and checks every limit before it spends memory."""

from __future__ import annotations

import cv2
import numpy as np

from common.domain.errors import InvalidInputError
from common.domain.frames import Image, PixelFormat, RawImage
from common.vision.headers import ImageHeader, read_header
from common.vision.limits import DEFAULT_LIMITS, DecodingLimits, ImageSize, check_size

# So the halved picture still shrinks, by 1.25 at least. The nearer that is to 1, the more pixels
# differ from those of the whole picture at the same size.
_HALVED_FROM_SCALE = 2.5


def decode_image(
    image: Image, max_pixels: int, limits: DecodingLimits = DEFAULT_LIMITS
) -> np.ndarray:
    """Decode a frame to 8-bit RGB.

    Grey images are repeated over the channels, alpha is dropped (not blended), 16-bit PNGs keep
    their high bytes. EXIF orientation is ignored, as in DETR's evaluation on COCO. A JPEG or PNG
    that is cut off is refused. Bits flipped within a JPEG's compressed data cannot be told from a
    picture; libjpeg may then write a warning to stderr, which OpenCV gives no way to silence.

    Args:
        image: encoded or raw.
        max_pixels: upper limit of width times height, checked before decoding.
        limits: on what else decoding may cost, which are checked before decoding too.

    Returns:
        uint8 [H,W,3], RGB, C-contiguous; read-only where it shares the raw frame's bytes.

    Raises:
        InvalidInputError: the frame cannot be decoded, has a side of 0 pixels, exceeds a limit, or
            is raw and has another number of bytes than its size asks for.
    """
    if isinstance(image, RawImage):
        check_raw(image, max_pixels, limits)
        return decode_raw(image)
    header = read_header(image.data, max_pixels, limits)
    data = np.empty(header.needed_bytes, np.uint8)
    copy_needed(image.data, header, data)
    return decode_file(data, header.size)


def check_raw(image: RawImage, max_pixels: int, limits: DecodingLimits) -> None:
    """Check a raw frame against every limit.

    Raises:
        InvalidInputError: for the reasons that `decode_image` names.
    """
    check_size(ImageSize(image.width, image.height), max_pixels, limits)
    channels = image.pixel_format.channels
    expected = image.height * image.width * channels
    if len(image.data) != expected:
        raise InvalidInputError(
            f"a raw {image.pixel_format.value} frame of {image.width} x {image.height} pixels has "
            f"{expected} bytes, got {len(image.data)}"
        )


def decode_raw(image: RawImage) -> np.ndarray:
    """Convert a checked raw frame to what `decode_image` returns."""
    channels = image.pixel_format.channels
    pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, channels)
    if image.pixel_format is PixelFormat.BGR8:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if image.pixel_format is PixelFormat.GRAY8:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return pixels


def copy_needed(data: bytes, header: ImageHeader, target: np.ndarray) -> None:
    """Copy what the decoder needs of a file to `target`, uint8 [header.needed_bytes]."""
    source, position = np.frombuffer(data, np.uint8), 0
    for start, end in header.parts:
        target[position : position + end - start] = source[start:end]
        position += end - start


def may_be_halved(header: ImageHeader, wanted: ImageSize) -> bool:
    """Whether a picture can be decoded to half its size, and still be well above the size wanted.

    libjpeg leaves out half of the frequencies then, and most of the time. Sides of odd length
    would be rounded up, which moves what is in the picture.
    """
    return header.is_jpeg and all(
        side % 2 == 0 and side >= _HALVED_FROM_SCALE * wanted_side
        for side, wanted_side in zip(header.size, wanted)
    )


def decode_file(data: np.ndarray, size: ImageSize, halved: bool = False) -> np.ndarray:
    """Decode the parts that a decoder needs of a file whose header has been read.

    Args:
        data: uint8 [n], these parts.
        size: the size that the header promises.
        halved: decode to half of that size, which `may_be_halved` has to allow.

    Returns:
        What `decode_image` returns, or half of its height and width.

    Raises:
        InvalidInputError: the file cannot be decoded.
        MemoryError: there is not enough memory.
    """
    colour = cv2.IMREAD_REDUCED_COLOR_2 if halved else cv2.IMREAD_COLOR
    divisor = 2 if halved else 1
    try:
        bgr = cv2.imdecode(data, colour | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise InvalidInputError("the image cannot be decoded") from error
    if bgr is None or bgr.shape[:2] != (size.height // divisor, size.width // divisor):
        raise InvalidInputError("the image cannot be decoded")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)
