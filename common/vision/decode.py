"""Frames as clients send them to RGB pixels, with every limit checked before memory is spent."""

from __future__ import annotations

import cv2
import numpy as np

from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, Image, PixelFormat, RawImage
from common.vision.headers import read_size


def decode_image(image: Image, max_pixels: int) -> np.ndarray:
    """Decode a frame to 8-bit RGB.

    Grey images are repeated over the channels, alpha is dropped (not blended), 16-bit PNGs keep
    their high bytes. EXIF orientation is ignored, as in DETR's evaluation on COCO. A JPEG or PNG
    that is cut off is refused. Bits flipped within a JPEG's compressed data cannot be told from a
    picture; libjpeg may then write a warning to stderr, which OpenCV gives no way to silence.

    Args:
        image: encoded or raw.
        max_pixels: upper limit of width times height, checked before decoding.

    Returns:
        uint8 [H,W,3], RGB, C-contiguous; read-only where it shares the raw frame's bytes.

    Raises:
        InvalidInputError: undecodable, of zero size, above `max_pixels`, or a raw frame whose
            number of bytes is not what its size asks for.
    """
    if isinstance(image, RawImage):
        return _decode_raw(image, max_pixels)
    return _decode_encoded(image, max_pixels)


def _decode_raw(image: RawImage, max_pixels: int) -> np.ndarray:
    _check_size(image.width, image.height, max_pixels)
    channels = image.pixel_format.channels
    expected = image.height * image.width * channels
    if len(image.data) != expected:
        raise InvalidInputError(
            f"a raw {image.pixel_format.value} frame of {image.width} x {image.height} pixels has "
            f"{expected} bytes, got {len(image.data)}"
        )
    pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, channels)
    if image.pixel_format is PixelFormat.BGR8:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if image.pixel_format is PixelFormat.GRAY8:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return pixels


def _decode_encoded(image: EncodedImage, max_pixels: int) -> np.ndarray:
    size = read_size(image.data)
    _check_size(size.width, size.height, max_pixels)
    data = np.frombuffer(image.data, np.uint8)
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise InvalidInputError("the image cannot be decoded") from error
    if bgr is None:
        raise InvalidInputError("the image cannot be decoded")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise InvalidInputError(f"the frame is {width} x {height} pixels; both must be at least 1")
    if width * height > max_pixels:
        raise InvalidInputError(
            f"the frame is {width} x {height} pixels, {width * height} in all; "
            f"the limit is {max_pixels}"
        )
