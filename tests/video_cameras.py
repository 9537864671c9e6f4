"""Cameras that send video as they encode it, and the boxes of each of its frames."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from functools import cache
from typing import AsyncIterator, Iterator, List, Tuple

import grpc
import numpy as np

from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from common.wire.detections import detections_from_wire, timing_from_wire
from common.wire.errors import error_from_wire
from common.wire.frames import frame_to_wire
from common.wire.placements import placement_to_wire, served_pair_from_wire
from common.wire.video import video_to_wire
from protos.tandem.v1 import detector_pb2, detector_pb2_grpc
from tandem.client import pair_named
from tandem.results import FrameResult
from tests.cameras import Camera, streaming
from tests.streams import picture
from tests.videos import encoded

H264 = VideoFormat(VideoCodec.H264)
FRAMES = 60
"""Of the clip."""
GROUP_FRAMES = 30
"""From one key frame to the next."""
_STEP = 12
# Small frames: a connection would take thousands of them in.
_MOST_UNANSWERED = 64


def _turning_camera() -> Iterator[np.ndarray]:
    """What it sees, uint8 [120,160,3] RGB each: mostly what it saw just before."""
    seeds = range(2 + _STEP * FRAMES // 160)
    scene = np.concatenate([picture(seed) for seed in seeds], axis=1)
    for number in range(FRAMES):
        yield np.ascontiguousarray(scene[:, _STEP * number :][:, :160])


@cache
def clip(codec: VideoCodec = VideoCodec.H264) -> Tuple[AccessUnit, ...]:
    """What a `VideoCamera` sends, over and over."""
    units = encoded(tuple(_turning_camera()), codec, keyint=GROUP_FRAMES)
    key_frames = [number for number, unit in enumerate(units) if unit.key_frame]
    assert key_frames == list(range(0, FRAMES, GROUP_FRAMES))
    return tuple(units)


@dataclass
class VideoCamera(Camera):
    """One client that sends the clip, over and over; its frame n is frame n of that, modulo."""

    units: Tuple[AccessUnit, ...] = field(default_factory=clip)
    video: VideoFormat = H264

    async def run(self, address: str, ended: asyncio.Event) -> None:
        """Stream until `ended`, and take every answer."""
        async with grpc.aio.insecure_channel(address) as channel:
            stub = detector_pb2_grpc.DetectorStub(channel)
            async for response in stub.Detect(self._requests(ended)):
                self._take(_result(response))

    async def _requests(self, ended: asyncio.Event) -> AsyncIterator[detector_pb2.DetectRequest]:
        live = detector_pb2.OVERLOAD_DROP_OLDEST if self.fps else detector_pb2.OVERLOAD_BLOCK
        pair = pair_named(self.placement)
        yield detector_pb2.DetectRequest(
            options=detector_pb2.StreamOptions(
                placement=placement_to_wire(pair.placement if pair else None),
                overload=live,
                video=video_to_wire(self.video),
            )
        )
        due = time.monotonic()
        for unit in itertools.cycle(self.units):
            if ended.is_set():
                return
            if self.fps:
                due += 1 / self.fps
                await asyncio.sleep(due - time.monotonic())
            while self.sent - len(self.ids) >= _MOST_UNANSWERED:
                self._came.clear()
                await self._came.wait()
            frame = frame_to_wire(self.sent, unit)
            self.sent += 1
            yield detector_pb2.DetectRequest(frame=frame)


def _result(response: detector_pb2.DetectResponse) -> FrameResult:
    kind = response.WhichOneof("result")
    return FrameResult(
        frame_id=response.frame_id,
        detections=detections_from_wire(response.detections),
        error=error_from_wire(response.error) if kind == "error" else None,
        dropped=kind == "dropped",
        node_pair=served_pair_from_wire(response),
        timing=timing_from_wire(response),
        round_trip_seconds=0.0,
    )


async def boxes_of_clip(address: str, codec: VideoCodec = VideoCodec.H264) -> List[np.ndarray]:
    """The boxes of each of the clip's frames while nothing disturbs it."""
    camera = VideoCamera("undisturbed", units=clip(codec), video=VideoFormat(codec))
    async with streaming(address, camera):
        await camera.served(FRAMES)
    return [camera.boxes[number] for number in range(FRAMES)]
