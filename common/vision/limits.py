"""What a picture may ask of the machine that decodes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from common.domain.errors import InvalidInputError

DEFAULT_MAX_PIXELS = 50_000_000
"""Upper limit of a frame's width times height unless settings say otherwise."""


class ImageSize(NamedTuple):
    """Pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class DecodingLimits:
    """Limits beside the number of pixels; honest pictures stay far below each.

    Attributes:
        aspect_ratio: the long side over the short one.
        scans: passes over the picture that a progressive JPEG is made of; encoders make about 10.
        scan_pixels: pixels times scans. A scan of ten bytes costs as much as one of a megabyte.
        header_bytes: all but the compressed picture: profiles, comments, thumbnails.
        segments: a JPEG's markers, restarts aside; a PNG's chunks, those of the picture aside.
    """

    aspect_ratio: float = 64.0
    scans: int = 64
    scan_pixels: int = 800_000_000
    header_bytes: int = 8 << 20
    segments: int = 4096


DEFAULT_LIMITS = DecodingLimits()


def check_size(size: ImageSize, max_pixels: int, limits: DecodingLimits) -> None:
    """Refuse a frame by its size alone.

    Raises:
        InvalidInputError: a side is below 1, or a limit is exceeded; the text names it.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InvalidInputError(f"the frame is {width} x {height} pixels; both must be at least 1")
    if width * height > max_pixels:
        raise InvalidInputError(
            f"the frame is {width} x {height} pixels, {width * height} in all; "
            f"the limit is {max_pixels}"
        )
    if max(size) > limits.aspect_ratio * min(size):
        raise InvalidInputError(
            f"the frame is {width} x {height} pixels; the limit is one side "
            f"{limits.aspect_ratio:g} times as long as the other"
        )


def check_header_bytes(header_bytes: int, limits: DecodingLimits) -> None:
    """Refuse a file by what it holds beside its picture.

    Raises:
        InvalidInputError: over the limit.
    """
    if header_bytes > limits.header_bytes:
        raise InvalidInputError(
            "the image file has more bytes beside its picture than the limit of "
            f"{limits.header_bytes}"
        )


def check_segments(segments: int, limits: DecodingLimits) -> None:
    """Refuse a file by the number of its parts.

    Raises:
        InvalidInputError: over the limit.
    """
    if segments > limits.segments:
        raise InvalidInputError(
            f"the image file has more parts beside its picture than the limit of {limits.segments}"
        )
