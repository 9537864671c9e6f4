"""How long a route may go without an answer; pure functions of sizes and of what was measured."""

from __future__ import annotations

from typing import NamedTuple, Optional

from common.vision.headers import peek_size
from common.vision.limits import decode_deadline_seconds
from protos.tandem.v1 import detector_pb2

_LEAST_PROGRESS_SECONDS = 2.0
_PROGRESS_LATENCIES = 10.0
# Before anything was measured: a first frame may have to wait for a cold engine.
_FIRST_PROGRESS_SECONDS = 10.0
# A link whose speed is not known yet.
_SLOW_LINK_BYTES_PER_SECOND = 1e6
# A header may claim any size; stages refuse what is far beyond this at once.
_MOST_PIXELS = 100_000_000
# Frames in front of this one, and a link that has just become slower.
_LINK_ALLOWANCE = 2.0


class FrameWeight(NamedTuple):
    """What of a frame says how long it may take.

    Attributes:
        data_bytes: of its image, as the client sent it.
        pixels: that its image claims to have.
    """

    data_bytes: int
    pixels: int

    @classmethod
    def of(cls, frame: detector_pb2.Frame) -> FrameWeight:
        """Weigh a frame; of an encoded picture only the header is looked at.

        To be done once: protobuf copies the whole image for each look at it.
        """
        if frame.WhichOneof("image") == "raw":
            data_bytes = len(frame.raw.data)
            return cls(data_bytes, min(data_bytes, _MOST_PIXELS))
        data = frame.encoded
        size = peek_size(data)
        return cls(len(data), min(size.width * size.height, _MOST_PIXELS) if size else 0)


def frame_cost_seconds(weight: FrameWeight, link_bytes_per_second: Optional[float]) -> float:
    """What a frame may take for its own size at the most, beyond any other's: link and decoding.

    Args:
        weight: of the frame.
        link_bytes_per_second: of the way to the backbone; None while it is not known.
    """
    data_bytes, pixels = weight
    decode_seconds = decode_deadline_seconds(pixels, data_bytes) - decode_deadline_seconds(0, 0)
    rate = link_bytes_per_second or _SLOW_LINK_BYTES_PER_SECOND
    return decode_seconds + _LINK_ALLOWANCE * data_bytes / rate


def progress_deadline_seconds(latency_seconds: float, extra_seconds: float) -> float:
    """How long a route may go without an answer while frames are on it.

    Args:
        latency_seconds: of a frame lately, or as predicted; 0: nothing is known.
        extra_seconds: that frames on it may take since they are larger than those before.
    """
    if not latency_seconds:
        return _FIRST_PROGRESS_SECONDS + extra_seconds
    return max(_LEAST_PROGRESS_SECONDS, _PROGRESS_LATENCIES * latency_seconds) + extra_seconds
