"""A minimal client on the bare stubs, and frames to send. Runs on Python 3.8."""

import asyncio
import struct
from typing import AsyncIterator, Iterable, List, Optional, Tuple
from zlib import crc32

import cv2
import grpc
import numpy as np

from common.wire.connections import CallEnding
from protos.tandem.v1 import (
    detector_pb2,
    detector_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
)
from tests.waiting import PATIENCE_SECONDS


def picture(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Smooth random colours, uint8 [H,W,3] RGB; another picture for each seed."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(seed: int, height: int = 120, width: int = 160) -> bytes:
    """A picture as a JPEG file."""
    return encoded(picture(seed, height, width), ".jpg")


def encoded(rgb: np.ndarray, extension: str) -> bytes:
    """A picture as a file of this kind."""
    return cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims this size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IEND", b"")


def frame(frame_id: int, data: Optional[bytes] = None) -> detector_pb2.DetectRequest:
    """One frame; a picture of its own if none is given."""
    data = jpeg(frame_id) if data is None else data
    return detector_pb2.DetectRequest(frame=detector_pb2.Frame(frame_id=frame_id, encoded=data))


def options(**values: object) -> detector_pb2.DetectRequest:
    """Options of a stream; every detection is wanted unless said otherwise."""
    chosen = {"score_threshold": 0.0, **values}
    return detector_pb2.DetectRequest(options=detector_pb2.StreamOptions(**chosen))


async def detect(
    address: str, requests: Iterable[detector_pb2.DetectRequest]
) -> List[detector_pb2.DetectResponse]:
    """All responses to these requests."""
    responses, error = await detect_until_error(address, requests)
    assert error is None, f"{error.code}: {error.details}"
    return responses


async def detect_until_error(
    address: str, requests: Iterable[detector_pb2.DetectRequest]
) -> Tuple[List[detector_pb2.DetectResponse], Optional[CallEnding]]:
    """All responses up to the end of the stream, and how it ended if that was with an error."""
    responses = []
    async with grpc.aio.insecure_channel(address) as channel:
        call = detector_pb2_grpc.DetectorStub(channel).Detect(iter(requests))
        ending = CallEnding(call)
        try:
            async for response in call:
                responses.append(response)
        except grpc.aio.AioRpcError:
            return responses, ending
    return responses, None


class LiveStream:
    """A stream that is written to and read from by hand."""

    def __init__(self, address: str, channel: Optional[grpc.aio.Channel] = None) -> None:
        self._channel = channel or grpc.aio.insecure_channel(address)
        self.call = detector_pb2_grpc.DetectorStub(self._channel).Detect()

    async def send(self, *requests: detector_pb2.DetectRequest) -> None:
        for request in requests:
            await self.call.write(request)

    async def receive(self, count: int) -> List[detector_pb2.DetectResponse]:
        return [await asyncio.wait_for(self.call.read(), PATIENCE_SECONDS) for _ in range(count)]

    async def rest(self) -> List[detector_pb2.DetectResponse]:
        """Half-close and read to the end."""
        await self.call.done_writing()
        responses = []
        while True:
            response = await asyncio.wait_for(self.call.read(), PATIENCE_SECONDS)
            if response is grpc.aio.EOF:
                return responses
            responses.append(response)

    async def __aenter__(self) -> "LiveStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        await self._channel.close()


async def status(address: str) -> operations_pb2.SystemStatus:
    """The orchestrator's status."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        return await stub.GetStatus(operations_pb2.GetStatusRequest())


async def watch_until(address: str, condition) -> operations_pb2.SystemStatus:
    """The first status for which `condition` holds."""
    request = operations_pb2.WatchStatusRequest()
    request.interval.FromMilliseconds(100)
    async with grpc.aio.insecure_channel(address) as channel:
        async for state in operations_pb2_grpc.OperationsStub(channel).WatchStatus(
            request, timeout=PATIENCE_SECONDS
        ):
            if condition(state):
                return state
    raise AssertionError("the status stream ended")


def boxes(response: detector_pb2.DetectResponse) -> np.ndarray:
    """float64 [n,6]: category id, score, box."""
    return np.array(
        [
            [each.category_id, each.score]
            + [each.box.x_min, each.box.y_min, each.box.x_max, each.box.y_max]
            for each in response.detections.detections
        ]
    )


def stages_up(state: operations_pb2.SystemStatus) -> int:
    return sum(stage.healthy for stage in state.stages)


async def paced(
    requests: Iterable[detector_pb2.DetectRequest], interval_seconds: float
) -> AsyncIterator[detector_pb2.DetectRequest]:
    """The requests at a camera's pace."""
    for request in requests:
        yield request
        await asyncio.sleep(interval_seconds)
