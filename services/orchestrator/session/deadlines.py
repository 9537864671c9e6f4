"""How long a route may go without an answer; pure functions of sizes and of what was measured."""

from __future__ import annotations

from typing import NamedTuple, Optional

from common.vision.headers import peek_size
from common.vision.limits import decode_deadline_seconds
from protos.tandem.v1 import detector_pb2
from services.orchestrator.session.groups import NOTHING, Lack

_LEAST_PROGRESS_SECONDS = 2.0
_PROGRESS_LATENCIES = 10.0
# Before anything was measured: a first frame may have to wait for a cold engine.
_FIRST_PROGRESS_SECONDS = 10.0
# A link whose speed is not known yet.
_SLOW_LINK_BYTES_PER_SECOND = 1e6
# A header may claim any size; stages refuse what is far beyond this at once.
_MOST_PIXELS = 100_000_000
# The most that an access unit takes which is only decoded: a large one on a small device.
_DECODE_ONLY_SECONDS = 0.1
# Frames in front of this one, and a link that has just become slower.
_LINK_ALLOWANCE = 2.0
# Share of the latest frame in the running means.
_RECENT_SHARE = 0.1


class FrameWeight(NamedTuple):
    """What of a frame says how long it may take.

    Attributes:
        data_bytes: size of its image or access unit, as the client sent it.
        pixels: number of pixels that its image claims to have; 0 if that cannot be told.
    """

    data_bytes: int
    pixels: int

    @classmethod
    def of(cls, frame: detector_pb2.Frame) -> FrameWeight:
        """Weigh a frame; of an encoded picture only the header is looked at.

        Weigh each frame once: protobuf copies the whole image for each look at it.
        """
        kind = frame.WhichOneof("image")
        if kind == "encoded_video":
            return cls(len(frame.encoded_video.data), 0)
        if kind == "raw":
            data_bytes = len(frame.raw.data)
            return cls(data_bytes, min(data_bytes, _MOST_PIXELS))
        data = frame.encoded
        size = peek_size(data)
        return cls(len(data), min(size.width * size.height, _MOST_PIXELS) if size else 0)

    def cost_seconds(self, link_bytes_per_second: Optional[float], lack: Lack = NOTHING) -> float:
        """The most that a frame of this weight may take for its size: on the link, and to decode.

        Args:
            link_bytes_per_second: rate of the link to the backbone; None while it is not known.
            lack: what is sent before it.
        """
        decode_seconds = decode_deadline_seconds(self.pixels, self.data_bytes)
        decode_seconds -= decode_deadline_seconds(0, 0)
        rate = link_bytes_per_second or _SLOW_LINK_BYTES_PER_SECOND
        decode_seconds += _DECODE_ONLY_SECONDS * len(lack.frames)
        return decode_seconds + _LINK_ALLOWANCE * (self.data_bytes + lack.data_bytes) / rate


class Pace:
    """How long a session's frames have lately taken, so that one which takes too long stands out.

    Both are running means; 0 before the first frame.

    Attributes:
        latency_seconds: time from sending a frame to its answer.
        cost_seconds: `FrameWeight.cost_seconds` of the frames.
    """

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.latency_seconds = 0.0
        self.cost_seconds = 0.0

    def served(self, latency_seconds: float, cost_seconds: float) -> None:
        """Take note of a frame that came back."""
        share = _RECENT_SHARE if self.latency_seconds else 1.0
        self.latency_seconds += share * (latency_seconds - self.latency_seconds)
        self.cost_seconds += share * (cost_seconds - self.cost_seconds)

    def extra_seconds(self, cost_seconds: float) -> float:
        """How much longer a frame may take than those before, since it is larger."""
        return max(0.0, cost_seconds - self.cost_seconds)


def progress_deadline_seconds(latency_seconds: float, extra_seconds: float) -> float:
    """How long a route may go without an answer while frames are on it.

    Args:
        latency_seconds: of a frame lately, or as predicted; 0: nothing is known.
        extra_seconds: how much longer the frames on it may take, since they are larger than those
            before.
    """
    if not latency_seconds:
        return _FIRST_PROGRESS_SECONDS + extra_seconds
    return max(_LEAST_PROGRESS_SECONDS, _PROGRESS_LATENCIES * latency_seconds) + extra_seconds
