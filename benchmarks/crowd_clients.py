"""Many clients at once, in a process of their own: cameras at a pace, and others that never rest.

`python -m benchmarks.crowd_clients ADDRESS PLAN` takes a `CrowdPlan` as JSON and prints a `Client`
for each client as JSON. Each has a connection of its own, as clients on machines of their own have.
The frames' messages are made beforehand: these clients share the machine with what they measure.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import grpc

from common.domain.detections import StreamOptions
from common.domain.placement import NodePair
from common.vision.decode import decode_image
from common.wire.connections import CallEnding, open_channel
from common.wire.message_sizes import message_bytes_metadata
from common.wire.placements import stream_options_to_wire
from protos.tandem.v1 import detector_pb2
from tandem.shipped import shipped_clip
from tandem.sources import open_source

_DETECT = "/tandem.v1.Detector/Detect"
# Clients that share a channel's settings would share its connection.
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
# What has not been answered so long after the last frame never will be.
_LAST_SECONDS = 60.0
_CONNECTED_AT_A_TIME = 16
_SIZE, _JPEG_QUALITY, _MAX_PIXELS = (128, 96), 85, 1 << 24


@dataclass(frozen=True)
class CrowdPlan:
    """Who sends what.

    Attributes:
        placement: of every stream.
        paced: how many clients send at a pace.
        frames_per_second: of each of those.
        greedy: how many send as fast as their frames are taken.
        in_flight: frames that a greedy client has sent and that are not answered yet.
        warm_up_seconds: left out of what is measured.
        seconds: measured.
    """

    placement: str
    paced: int = 256
    frames_per_second: float = 2.0
    greedy: int = 16
    in_flight: int = 33
    warm_up_seconds: float = 5.0
    seconds: float = 20.0


@dataclass
class Client:
    """What one client saw; latencies in seconds.

    Attributes:
        is_paced: whether it sent at a pace.
        sent: frames, over the whole run.
        answered: answers of any kind to these.
        repeated: answers to a frame that was answered already.
        reordered: answers that came after that of a later frame.
        failed: answers that are errors.
        fault: the first of these errors; empty if there is none.
        refused: why its stream was ended by the server; empty if it was not.
        latencies: of the answers within the measured time, from when the frame was due.
    """

    is_paced: bool
    sent: int = 0
    answered: int = 0
    repeated: int = 0
    reordered: int = 0
    failed: int = 0
    fault: str = ""
    refused: str = ""
    latencies: list[float] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Frames without an answer."""
        return self.sent - (self.answered - self.repeated)


class _Run:
    """One client's stream."""

    def __init__(
        self, plan: CrowdPlan, client: Client, image: bytes, began: float, phase: float
    ) -> None:
        self.client = client
        self._plan = plan
        self._began = began
        self._phase = phase
        self._image = image
        self._due: list[float] = []
        self._answered: set[int] = set()
        self._latest = -1
        self._slots = asyncio.Semaphore(plan.in_flight)

    async def run(self, channel: grpc.aio.Channel) -> None:
        """Send until the time is over; every answer is looked at."""
        told = message_bytes_metadata(len(self._image))
        call: Any = channel.stream_stream(_DETECT)(metadata=told)
        ending = CallEnding(call)
        options = StreamOptions(requested_pair=NodePair.parse(self._plan.placement))
        opening = detector_pb2.DetectRequest(options=stream_options_to_wire(options))
        sending = asyncio.create_task(self._send(call, opening.SerializeToString()))
        try:
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + self._end - time.monotonic() + _LAST_SECONDS
            ):
                while (data := await call.read()) is not grpc.aio.EOF:
                    self._take(detector_pb2.DetectResponse.FromString(data))
                await ending.wait()
        except (grpc.aio.AioRpcError, TimeoutError):
            pass
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if ending.code not in (None, grpc.StatusCode.OK):
            self.client.refused = f"{ending.code.name}: {ending.details}"

    @property
    def _end(self) -> float:
        return self._began + self._plan.warm_up_seconds + self._plan.seconds

    async def _send(self, call: Any, opening: bytes) -> None:
        await call.write(opening)
        async for number in self._numbers():
            frame = detector_pb2.Frame(frame_id=number, encoded=self._image)
            self.client.sent += 1
            await call.write(detector_pb2.DetectRequest(frame=frame).SerializeToString())
        await call.done_writing()

    async def _numbers(self) -> AsyncIterator[int]:
        """The number of each frame, when it is due."""
        if not self.client.is_paced:
            while (now := time.monotonic()) < self._end:
                await self._slots.acquire()
                self._due.append(max(now, time.monotonic()))
                yield len(self._due) - 1
            return
        due = self._began + self._phase / self._plan.frames_per_second
        while due < self._end:
            await asyncio.sleep(due - time.monotonic())
            self._due.append(due)
            yield len(self._due) - 1
            due += 1 / self._plan.frames_per_second

    def _take(self, response: detector_pb2.DetectResponse) -> None:
        client, now = self.client, time.monotonic()
        client.answered += 1
        client.repeated += response.frame_id in self._answered
        client.reordered += response.frame_id < self._latest
        if response.WhichOneof("result") != "detections":
            client.failed += 1
            client.fault = client.fault or response.error.message
        self._answered.add(response.frame_id)
        self._latest = max(self._latest, response.frame_id)
        self._slots.release()
        if self._began + self._plan.warm_up_seconds <= now < self._end:
            client.latencies.append(now - self._due[response.frame_id])


def small_picture() -> bytes:
    """A JPEG of 128 x 96 and 4 kB, so that little of what is measured is decoding."""
    with closing(open_source(str(shipped_clip()))) as source:
        pixels = decode_image(next(iter(source)).image, _MAX_PIXELS)
    bgr = cv2.cvtColor(cv2.resize(pixels, _SIZE), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1])


async def run(address: str, plan: CrowdPlan) -> list[Client]:
    """Run all clients of a plan; those at a pace are spread evenly over its period."""
    clients = [Client(index < plan.paced) for index in range(plan.paced + plan.greedy)]
    channels = [open_channel(address, _OWN_CONNECTION) for _ in clients]
    connecting = asyncio.Semaphore(_CONNECTED_AT_A_TIME)

    async def connect(channel: grpc.aio.Channel) -> None:
        async with connecting:
            await channel.channel_ready()

    await asyncio.gather(*(connect(channel) for channel in channels))
    image = small_picture()
    began = time.monotonic()
    runs = [
        _Run(plan, client, image, began, (index % max(1, plan.paced)) / max(1, plan.paced))
        for index, client in enumerate(clients)
    ]
    await asyncio.gather(*(each.run(channel) for each, channel in zip(runs, channels, strict=True)))
    await asyncio.gather(*(channel.close() for channel in channels))
    return clients


def main() -> None:
    """Run and print."""
    address, plan = sys.argv[1:]
    clients = asyncio.run(run(address, CrowdPlan(**json.loads(plan))))
    json.dump([asdict(client) for client in clients], sys.stdout)


if __name__ == "__main__":
    main()
