"""What a picture may ask of the machine that decodes it: size, parts and time."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import Deque, NamedTuple

from common.domain.errors import InvalidInputError

DEFAULT_MAX_PIXELS = 50_000_000
"""Upper limit of a frame's width times height unless settings say otherwise."""

# Twice what one core of a Jetson TX2 needs, which is taken to be five times slower than a PC's. The
# PC's core needs at most 50 ns a pixel for a PNG of noise (42 MB/s of its file), and 33 ns for a
# progressive JPEG.
_DEADLINE_SECONDS = 2.0
_DEADLINE_SECONDS_PER_PIXEL = 400e-9
_DEADLINE_SECONDS_PER_BYTE = 100e-9

# Decoders run beside engines that take every core, and at a lower priority.
_WALL_SECONDS = 10.0
_WALL_PER_CPU = 4.0

_FIRST_GUESS = 2.0
_SLOWEST = 8.0
_RECENT_FRAMES = 51
_TELLING_SECONDS = 0.002
_SPARE_SECONDS = 0.05
_SPARE_FACTOR = 3.0


class ImageSize(NamedTuple):
    """The width and height of a picture, in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class DecodingLimits:
    """Limits beside the number of pixels; honest pictures stay far below each.

    Attributes:
        aspect_ratio: the largest ratio of the long side to the short one.
        scans: the most passes over the picture that a progressive JPEG may be made of. Encoders
            make about 10.
        scan_pixels: the largest product of pixels and scans. A scan of ten bytes takes as long to
            decode as one of a megabyte.
        header_bytes: the most bytes beside the compressed picture: profiles, comments, thumbnails.
        segments: the most markers of a JPEG, not counting restarts, or chunks of a PNG, not
            counting those of the picture.
    """

    aspect_ratio: float = 64.0
    scans: int = 64
    scan_pixels: int = 800_000_000
    header_bytes: int = 8 << 20
    segments: int = 4096


DEFAULT_LIMITS = DecodingLimits()


def check_size(size: ImageSize, max_pixels: int, limits: DecodingLimits) -> None:
    """Refuse a frame whose size alone is over a limit.

    Raises:
        InvalidInputError: a side is below 1 pixel, or the size exceeds a limit, which it names.
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
    """Refuse a file that holds too many bytes beside its picture.

    Raises:
        InvalidInputError: the file exceeds the limit.
    """
    if header_bytes > limits.header_bytes:
        raise InvalidInputError(
            "the image file has more bytes beside its picture than the limit of "
            f"{limits.header_bytes}"
        )


def check_segments(segments: int, limits: DecodingLimits) -> None:
    """Refuse a file that has too many parts.

    Raises:
        InvalidInputError: the file exceeds the limit.
    """
    if segments > limits.segments:
        raise InvalidInputError(
            f"the image file has more parts beside its picture than the limit of {limits.segments}"
        )


def decode_deadline_seconds(pixels: int, data_bytes: int) -> float:
    """The CPU time after which decoding a frame is given up; an honest frame takes far less.

    Args:
        pixels: the frame's width times its height.
        data_bytes: the size of the file, or of the raw frame.
    """
    return (
        _DEADLINE_SECONDS
        + _DEADLINE_SECONDS_PER_PIXEL * pixels
        + _DEADLINE_SECONDS_PER_BYTE * data_bytes
    )


def wall_deadline_seconds(cpu_seconds: float) -> float:
    """How long to wait, on a busy machine, for work that may take this much CPU time."""
    return _WALL_SECONDS + _WALL_PER_CPU * cpu_seconds


class Pace:
    """How long this machine takes to decode, as a multiple of what is estimated for a PC."""

    def __init__(self) -> None:
        """Begin with a guess, which the first frames correct."""
        self._recent: Deque[float] = deque([_FIRST_GUESS], maxlen=_RECENT_FRAMES)
        self._median = _FIRST_GUESS

    def record(self, estimated_seconds: float, cpu_seconds: float) -> None:
        """Learn from one frame, unless it is too small to tell anything."""
        if estimated_seconds >= _TELLING_SECONDS:
            # A client that sends many slow frames must not make the budget grow without end.
            self._recent.append(min(cpu_seconds / estimated_seconds, _SLOWEST))
            self._median = statistics.median(self._recent)

    def budget_seconds(self, estimated_seconds: float) -> float:
        """The CPU time that a frame needs if its estimate holds, and some to spare."""
        return _SPARE_SECONDS + _SPARE_FACTOR * self._median * estimated_seconds

    def largest_budget_seconds(self, estimated_seconds: float) -> float:
        """The largest budget that a frame with this estimate can have on any machine."""
        return _SPARE_SECONDS + _SPARE_FACTOR * _SLOWEST * estimated_seconds
