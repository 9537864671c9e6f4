"""The shipped clip as a camera would send it, and a client that sends it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence

import grpc

from common.domain.errors import ServiceError
from common.domain.placement import Placement
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from common.wire.frames import frame_to_wire
from common.wire.placements import placement_to_wire
from common.wire.video import video_to_wire
from protos.tandem.v1 import detector_pb2, detector_pb2_grpc
from tandem.cli.bench import load_units
from tandem.shipped import camera_clip

_MOST_UNANSWERED = 64


def camera_video() -> list[AccessUnit]:
    """The shipped clip as a camera encodes it, in H.264."""
    units, _ = load_units(str(camera_clip()))
    return units


class VideoStream:
    """One client's stream of access units, over and over."""

    def __init__(
        self,
        address: str,
        units: Sequence[AccessUnit],
        *,
        placement: Placement | None = None,
        frames: int | None = None,
        fps: float = 0,
    ) -> None:
        """Prepare.

        Args:
            address: of the orchestrator.
            units: to be sent.
            placement: that it asks for; None leaves it to the server.
            frames: how many; None: without end.
            fps: frames a second of a live stream; 0: as fast as they are taken, none dropped.
        """
        self._address = address
        self._units = units
        self._placement = placement
        self._frames = frames
        self._fps = fps
        self._answered = 0
        self._came = asyncio.Event()

    async def run(self) -> None:
        """Stream to the end."""
        async for _ in self.answers():
            pass

    async def answers(self) -> AsyncIterator[int]:
        """Stream to the end; the number of answers with each of them.

        Raises:
            ServiceError: an answer is an error.
        """
        async with grpc.aio.insecure_channel(self._address) as channel:
            async for response in detector_pb2_grpc.DetectorStub(channel).Detect(self._requests()):
                if response.WhichOneof("result") == "error":
                    raise ServiceError(response.error.message)
                self._answered += 1
                self._came.set()
                yield self._answered

    async def _requests(self) -> AsyncIterator[detector_pb2.DetectRequest]:
        live = detector_pb2.OVERLOAD_DROP_OLDEST if self._fps else detector_pb2.OVERLOAD_BLOCK
        options = detector_pb2.StreamOptions(
            placement=placement_to_wire(self._placement),
            overload=live,
            video=video_to_wire(VideoFormat(VideoCodec.H264)),
        )
        yield detector_pb2.DetectRequest(options=options)
        due = time.monotonic()
        units = itertools.islice(itertools.cycle(self._units), self._frames)
        for number, unit in enumerate(units):
            if self._fps:
                due += 1 / self._fps
                await asyncio.sleep(due - time.monotonic())
            while number - self._answered >= _MOST_UNANSWERED:
                self._came.clear()
                await self._came.wait()
            yield detector_pb2.DetectRequest(frame=frame_to_wire(number, unit))
