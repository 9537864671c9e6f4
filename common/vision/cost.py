"""How long decoding a frame may take."""

from __future__ import annotations

# Of one core of a Jetson TX2, taken to be five times slower than a PC's, which needs at most 50 ns
# a pixel for a PNG of noise (42 MB/s of its file) and 33 ns for a progressive JPEG: twice as much.
_DEADLINE_SECONDS = 2.0
_DEADLINE_SECONDS_PER_PIXEL = 400e-9
_DEADLINE_SECONDS_PER_BYTE = 100e-9

# Beside engines that take every core, and at a lower priority.
_WALL_SECONDS = 10.0
_WALL_PER_CPU = 4.0


def decode_deadline_seconds(pixels: int, data_bytes: int) -> float:
    """The CPU time after which a frame is given up: far more than an honest one takes anywhere.

    Args:
        pixels: width times height.
        data_bytes: of the file, or of the raw frame.
    """
    return (
        _DEADLINE_SECONDS
        + _DEADLINE_SECONDS_PER_PIXEL * pixels
        + _DEADLINE_SECONDS_PER_BYTE * data_bytes
    )


def wall_deadline_seconds(cpu_seconds: float) -> float:
    """How long to wait for what may take so much CPU time, on a machine that is busy."""
    return _WALL_SECONDS + _WALL_PER_CPU * cpu_seconds
