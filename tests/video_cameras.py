"""Cameras that send video as they encode it, and the boxes of each of its frames."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import AsyncIterator, List, Tuple

import av
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

H264 = VideoFormat(VideoCodec.H264)
KEY_FRAMES = (0, 20, 50)
"""Which of a clip's frames can be decoded alone: groups of several lengths."""
FRAMES = 60
_STEP = 12


def moving(frames: int = FRAMES, height: int = 120, width: int = 160) -> List[np.ndarray]:
    """Pictures of a camera that turns, uint8 [H,W,3] RGB: each is mostly that before it."""
    scene = np.concatenate(
        [picture(seed, height, width) for seed in range(2 + _STEP * frames // width)], axis=1
    )
    return [
        np.ascontiguousarray(scene[:, _STEP * number : _STEP * number + width])
        for number in range(frames)
    ]


def encode(
    pictures: List[np.ndarray], key_frames: Tuple[int, ...], **options: str
) -> List[AccessUnit]:
    """H.264 as a camera makes it: without B frames, its parameter sets before each key frame."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = pictures[0].shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {
        **{"bf": "0", "tune": "zerolatency", "forced-idr": "1", "threads": "1"},
        **{"g": "100000", "sc_threshold": "0"},
        **options,
    }
    packets = []
    for number, pixels in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = number
        if number in key_frames:
            frame.pict_type = av.video.frame.PictureType.I
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [AccessUnit(bytes(packet), bool(packet.is_keyframe)) for packet in packets]


@cache
def clip() -> Tuple[AccessUnit, ...]:
    """What a `VideoCamera` sends, over and over."""
    units = encode(moving(), KEY_FRAMES)
    assert [number for number, unit in enumerate(units) if unit.key_frame] == list(KEY_FRAMES)
    return tuple(units)


@dataclass
class VideoCamera(Camera):
    """One client that sends the clip, over and over; its frame n is frame n of that, modulo."""

    units: Tuple[AccessUnit, ...] = field(default_factory=clip)

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
                video=video_to_wire(H264),
            )
        )
        due = time.monotonic()
        for unit in itertools.cycle(self.units):
            if ended.is_set():
                return
            if self.fps:
                due += 1 / self.fps
                await asyncio.sleep(due - time.monotonic())
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


async def boxes_of_clip(address: str) -> List[np.ndarray]:
    """The boxes of each of the clip's frames while nothing disturbs it."""
    camera = VideoCamera("undisturbed")
    async with streaming(address, camera):
        await camera.served(FRAMES)
    return [camera.boxes[number] for number in range(FRAMES)]
