"""Frames as clients send them, and the sizes a frame goes through on its way to boxes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Union


class PixelFormat(str, Enum):
    """Channel order of a raw image; 8 bits a channel, interleaved, rows without padding."""

    RGB8 = "rgb8"
    BGR8 = "bgr8"
    GRAY8 = "gray8"

    @property
    def channels(self) -> int:
        """Bytes a pixel."""
        return 1 if self is PixelFormat.GRAY8 else 3


@dataclass(frozen=True)
class EncodedImage:
    """A JPEG or PNG file's bytes."""

    data: bytes


@dataclass(frozen=True)
class RawImage:
    """An uncompressed image.

    Attributes:
        width: pixels.
        height: pixels.
        pixel_format: channel order.
        data: `height * width * pixel_format.channels` bytes, row-major, without padding.
    """

    width: int
    height: int
    pixel_format: PixelFormat
    data: bytes


Image = Union[EncodedImage, RawImage]


@dataclass(frozen=True)
class FrameGeometry:
    """The sizes (pixels) of one frame on its way through the model.

    Attributes:
        frame_height: rows of the frame as the client sent it; boxes are in its pixels.
        frame_width: columns of the frame as the client sent it.
        input_height: rows of the network's input, padding included.
        input_width: columns of the network's input, padding included.
        valid_height: rows of the input, from the top, that hold the resized picture.
        valid_width: columns of the input, from the left, that hold the resized picture.
    """

    frame_height: int
    frame_width: int
    input_height: int
    input_width: int
    valid_height: int
    valid_width: int
