"""A client's frames as they arrive: when, and where in the session's video if they are video."""

from __future__ import annotations

import time
from typing import NamedTuple, Optional

from common.domain.errors import TandemError
from common.domain.video import AccessUnit, VideoFormat
from common.wire.frames import content_from_wire
from protos.tandem.v1 import detector_pb2
from services.orchestrator.session.groups import NOTHING, DecoderProgress, KeptVideo, Place


class Arrival(NamedTuple):
    """A frame that was read.

    Attributes:
        frame: as the client sent it.
        ticks: when it was read, by `time.perf_counter`: to measure from.
        unix_seconds: when it was read, by the clock: to tell.
        place: in the session's video; None if it is a picture, or refused.
        refusal: why it cannot be served; None if it can.
    """

    frame: detector_pb2.Frame
    ticks: float
    unix_seconds: float
    place: Optional[Place] = None
    refusal: Optional[TandemError] = None

    @property
    def elapsed_seconds(self) -> float:
        """Time since it was read."""
        return time.perf_counter() - self.ticks


class Arrivals:
    """Receives a session's frames, in their order."""

    def __init__(self, video: KeptVideo, video_format: Optional[VideoFormat]) -> None:
        """Receive none yet.

        Args:
            video: keeps the frames that are video.
            video_format: of the stream's options; None: its frames are pictures.
        """
        self._video = video
        self._format = video_format
        # What a decoder would have been sent that served just the frames which this session serves.
        self._served = DecoderProgress()

    def receive(self, frame: detector_pb2.Frame) -> Arrival:
        """Take a frame that was read; one of video is kept until `release`."""
        times = time.perf_counter(), time.time()
        if self._format is None and frame.WhichOneof("image") != "encoded_video":
            return Arrival(frame, *times)
        try:
            return Arrival(frame, *times, place=self._keep(frame))
        except TandemError as error:
            return Arrival(frame, *times, refusal=error.with_traceback(None))

    def needed_bytes(self, arrival: Arrival) -> Optional[int]:
        """What has to cross a link for a frame of video that is to be served now; None: a picture.

        These are its own bytes, and those of the frames before it which were not to be served.
        """
        place = arrival.place
        if place is None:
            return None
        lack = self._served.lacks(place) or NOTHING
        self._served.sent(place)
        return place.data_bytes + lack.data_bytes

    def release(self, arrival: Arrival) -> None:
        """A frame has been answered."""
        if arrival.place is not None:
            self._video.release(arrival.place)

    def _keep(self, frame: detector_pb2.Frame) -> Place:
        unit = content_from_wire(frame, self._format)
        if not isinstance(unit, AccessUnit):
            raise ValueError("a picture is kept as video")
        return self._video.add(frame, len(unit.data), key_frame=unit.key_frame)
