"""Tracks of one session: which object each detection shows, told in the order of the frames."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Callable, Optional

import numpy as np

from common.domain.detections import OverloadPolicy, StreamOptions
from common.tracking import Tracker, asked_threshold
from protos.tandem.v1 import detection_pb2, detector_pb2

# After so long without an answer of a live stream, nobody can tell what became of the objects. The
# frames of any other stream wait, and follow upon each other however long an answer takes.
_LIVE_GAP_SECONDS = 10.0


class SessionTracks:
    """Follows the objects of a session, if its client wants that.

    It sees each answer just before it is written. So it does not matter which route served the
    frame, or how many had to be tried.

    Attributes:
        options: what to ask of the stages: with tracks, detections of low scores as well.
    """

    def __init__(self, options: StreamOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """Follow nothing yet.

        Args:
            options: those of the client's stream.
            clock: in seconds.

        Raises:
            PreconditionError: the client wants tracks, and the library for it is not installed.
        """
        self.options = options
        self._threshold = float(np.float32(options.score_threshold))
        self._most = options.max_detections
        self._is_live = options.overload is OverloadPolicy.DROP_OLDEST
        self._clock = clock
        self._latest_at = clock()
        self._tracker: Optional[Tracker] = None
        if options.track:
            self._tracker = Tracker(options.score_threshold)
            threshold = asked_threshold(options.score_threshold)
            self.options = replace(options, score_threshold=threshold, max_detections=0)

    def add(self, response: detector_pb2.DetectResponse) -> None:
        """Add tracks to the next answer, and take out of it what the client did not ask for."""
        if self._tracker is None or response.WhichOneof("result") != "detections":
            return
        now = self._clock()
        if self._is_live and now - self._latest_at > _LIVE_GAP_SECONDS:
            self._tracker.forget()
        self._latest_at = now
        found = response.detections.detections
        for detection, track_id in zip(found, self._tracker.follow(found)):
            if track_id is None:
                detection.ClearField("track_id")
            else:
                detection.track_id = track_id
        wanted = [one for one in found if one.score >= self._threshold]
        if self._most:
            wanted = wanted[: self._most]
        if len(wanted) < len(found):
            response.detections.CopyFrom(detection_pb2.Detections(detections=wanted))
