"""What it costs to decode a frame, and how long that may take."""

from __future__ import annotations

# Of one core of a Jetson TX2, taken to be five times slower than a PC's, which needs at most 50 ns
# a pixel for a PNG of noise (47 MB/s of its file) and 33 ns for a progressive JPEG: twice as much.
_DEADLINE_SECONDS = 2.0
_DEADLINE_SECONDS_PER_PIXEL = 400e-9
_DEADLINE_SECONDS_PER_BYTE = 100e-9


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
