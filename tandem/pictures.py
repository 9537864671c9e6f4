"""Frames as callers hand them over; pixels to JPEG or PNG, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, Image, PixelFormat, RawImage

Frame = bytes | bytearray | memoryview | np.ndarray | Image

# Of frames that are not pictures already: artefacts that a detector would notice begin lower.
JPEG_QUALITY = 90


def refuse_single_frame(frames: object) -> None:
    """Frames come as an iterable, which bytes and arrays are too, of what is no frame.

    Raises:
        InvalidInputError: this is no iterable, or a single frame.
    """
    if not isinstance(frames, Iterable) or isinstance(frames, Frame):
        raise InvalidInputError(
            f"frames have to come as an iterable, not as a single {type(frames).__name__}"
        )


def as_image(frame: Frame) -> Image:
    """A frame as the model's decoding and the wire take it.

    Raises:
        InvalidInputError: it is of no type that is taken.
    """
    if isinstance(frame, EncodedImage | RawImage):
        return frame
    if isinstance(frame, bytes | bytearray | memoryview):
        return EncodedImage(bytes(frame))
    if not isinstance(frame, np.ndarray):
        raise InvalidInputError(
            f"a frame is a {type(frame).__name__}; it has to be JPEG or PNG bytes, an array, "
            "an EncodedImage or a RawImage"
        )
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise InvalidInputError(
            f"a frame is an array of shape {frame.shape} and type {frame.dtype}; "
            "it has to be HxWx3, uint8, RGB"
        )
    height, width = frame.shape[:2]
    return RawImage(width, height, PixelFormat.RGB8, frame.tobytes())


def encode_jpeg(pixels: np.ndarray, quality: int = JPEG_QUALITY) -> EncodedImage:
    """Compress.

    Args:
        pixels: HxWx3, uint8, BGR.
        quality: 1 to 100.
    """
    return EncodedImage(_encode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality]))


def encode_png(pixels: np.ndarray) -> EncodedImage:
    """Compress HxWx3, uint8, BGR without loss."""
    return EncodedImage(_encode(".png", pixels, []))


def decode_picture(image: EncodedImage) -> np.ndarray:
    """Pixels as they are stored (EXIF orientation is not applied, as on the server).

    Returns:
        HxWx3, uint8, BGR.

    Raises:
        InvalidInputError: OpenCV cannot decode it.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with quiet_opencv():
            pixels = cv2.imdecode(np.frombuffer(image.data, np.uint8), flags)
    except cv2.error as error:
        raise InvalidInputError(f"undecodable picture: {error.err}") from error
    if pixels is None:
        raise InvalidInputError("undecodable picture")
    return pixels


def pixels_of(image: RawImage) -> np.ndarray:
    """An uncompressed image as OpenCV takes it: HxWx3, uint8, BGR."""
    shape = (image.height, image.width, image.pixel_format.channels)
    pixels = np.frombuffer(image.data, np.uint8).reshape(shape)
    if image.pixel_format is PixelFormat.BGR8:
        return pixels.copy()
    is_grey = image.pixel_format is PixelFormat.GRAY8
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR if is_grey else cv2.COLOR_RGB2BGR)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from writing its own complaint to standard error, beside our sentence."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _encode(suffix: str, pixels: np.ndarray, parameters: list[int]) -> bytes:
    try:
        with quiet_opencv():
            done, buffer = cv2.imencode(suffix, pixels, parameters)
    except cv2.error:
        done = False
    if not done:
        height, width = pixels.shape[:2]
        raise InvalidInputError(f"a frame of {width} x {height} pixels cannot be encoded")
    return buffer.tobytes()
