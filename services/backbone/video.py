"""Turns a stream's access units into the backbone's inputs, one after the other.

Decoding one needs what the one before left behind, so each stream of video has a process that holds
its decoder, and a thread that waits for it. Neither a hostile stream nor a slow one touches the
others: only its own process is killed, and only its own frames wait.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from typing import Set

from common.domain.errors import ResourceExhaustedError
from common.domain.video import AccessUnit, VideoFormat
from common.vision.limits import ImageSize
from common.vision.preprocess import normalise
from common.vision.video.decoder_process import VideoDecoder
from common.vision.video.limits import VideoLimits
from services.backbone.pictures import Picture, Pictures
from services.pipeline.strand import Strand
from services.pipeline.turns import TurnThreads

# The process is killed then, and the thread ends at once.
_CLOSE_SECONDS = 1.0


class VideoStreams:
    """The open streams of video; used on the event loop, apart from `close`."""

    def __init__(self, limits: VideoLimits, most: int) -> None:
        """Allow so many streams at a time.

        Args:
            limits: on each stream.
            most: how many there may be.
        """
        self._limits = limits
        self._most = most
        self._open: Set[VideoStream] = set()
        self._numbers = itertools.count()

    def open(self, video: VideoFormat, pictures: Pictures) -> VideoStream:
        """Take a place for a stream, until it is closed.

        Args:
            video: what is to be decoded.
            pictures: knows the sizes of the inputs of the stream's backbone.

        Raises:
            ResourceExhaustedError: all places are taken.
        """
        if len(self._open) >= self._most:
            raise ResourceExhaustedError(
                f"{self._most} streams of video are decoded here, which is the limit "
                "(max_video_streams)"
            )
        stream = VideoStream(video, self._limits, pictures, f"video-{next(self._numbers)}")
        self._open.add(stream)
        return stream

    def leave(self, stream: VideoStream) -> None:
        """Give the place of a stream back, which has been closed."""
        self._open.discard(stream)

    def close(self) -> None:
        """Kill the decoders at once; any thread may call this."""
        for stream in tuple(self._open):
            stream.kill()


class VideoStream:
    """One stream's decoder.

    Attributes:
        video: what its access units are.
        strand: on which every access unit is prepared, in their order.
    """

    def __init__(
        self, video: VideoFormat, limits: VideoLimits, pictures: Pictures, name: str
    ) -> None:
        """Decode what `video` describes; see `VideoStreams.open`."""
        self.video = video
        self._decoder = VideoDecoder(video, limits)
        self._pictures = pictures
        self._thread = TurnThreads(1, name)
        # Not in the turns of `self`: in a cycle, the decoder's buffer would wait for the collector.
        self.strand = Strand(self._thread, name)

    def make(self, unit: AccessUnit) -> Picture:
        """Decode the next access unit to the backbone's input.

        Raises:
            InvalidInputError: it is malformed, damaged, too expensive, of a kind that is not
                served, or needs a picture that is not there.
            UnavailableError: this was closed, the machine is too busy, or that is the reason why a
                picture is not there.
        """
        started = time.perf_counter()
        checked = self._decoder.read(unit)
        geometry = self._pictures.geometry(checked.size)
        size = ImageSize(geometry.valid_width, geometry.valid_height)
        decoded = self._decoder.decode(checked, size)
        received = time.perf_counter()
        pixels = normalise(decoded.rgb, geometry, self._pictures.normalization)
        ended = time.perf_counter()
        # Checking it, and sending it to the decoder and back, counts as decoding.
        decode_seconds = received - started - decoded.resize_seconds
        preprocess_seconds = ended - received + decoded.resize_seconds
        return Picture({"pixels": pixels}, geometry, decode_seconds, preprocess_seconds)

    def follow(self, unit: AccessUnit) -> None:
        """Decode the next access unit for the sake of later ones only.

        Raises:
            TandemError: as `make` does.
        """
        self._decoder.follow(self._decoder.read(unit))

    def kill(self) -> None:
        """Kill the decoder at once, whatever it is doing."""
        self._decoder.close()

    def close(self) -> None:
        """Kill the decoder, and end the thread; blocks for a moment."""
        self.kill()
        # What is queued still fails at once now; left undone, it would keep its place at the
        # engine.
        is_empty = threading.Event()
        self.strand.submit(is_empty.set)
        is_empty.wait(_CLOSE_SECONDS)
        self._thread.close(_CLOSE_SECONDS)


@dataclass(frozen=True)
class VideoFrame:
    """A frame of video, to be decoded in its turn.

    Attributes:
        unit: what is decoded.
        stream: what decodes it.
    """

    unit: AccessUnit
    stream: VideoStream
