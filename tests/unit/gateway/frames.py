"""Frames of cameras with their answers, as the gateway's cameras publish them."""

from dataclasses import replace

from common.domain.detections import Box, Detection, FrameTiming
from common.domain.frames import EncodedImage
from common.domain.placement import Placement
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from services.gateway.cameras.configuration import Reports
from services.gateway.cameras.feed import CameraCondition, CameraFrame, CameraState
from tandem.results import FrameResult


def found(track_id, x=10.0, label="person", score=0.9):
    return Detection(1, label, score, Box(x, 10.0, x + 40.0, 90.0), track_id)


def camera_frame(camera, number, *detections, error=None, at=None):
    result = FrameResult(
        number,
        detections,
        error,
        False,
        Placement.FULL.node_pair,
        FrameTiming(None, None, 0.1),
        0.1,
    )
    return CameraFrame(
        camera=camera,
        number=number,
        picture=EncodedImage(b""),
        result=result,
        read_at_seconds=1_700_000_000.0 + number / 10 if at is None else at,
        latency_seconds=0.1,
    )


def video_frame(camera, number, *found, key=False, shown=True, error=None, unit=None, size=1):
    """A frame of H.264; one that is not `shown` was dropped."""
    frame = camera_frame(camera, number, *found, error=error)
    return replace(
        frame,
        picture=unit or AccessUnit(b"x" * size, key),
        result=replace(frame.result, dropped=not shown),
        video=VideoFormat(VideoCodec.H264),
    )


class ShownCamera:
    """A camera of a feed whose condition the test sets."""

    def __init__(self, feed, name, reports=Reports.CHANGES):
        self.name, self.reports = name, reports
        self.condition = CameraCondition.RUNNING
        self._feed = feed
        self._number = 0
        feed.add(self.state)

    def state(self):
        return CameraState(self.name, "clip.mp4", self.condition, reports=self.reports)

    def show(self, *detections, times=1, at=None):
        for _ in range(times):
            self._number += 1
            self._feed.publish(camera_frame(self.name, self._number, *detections, at=at))
