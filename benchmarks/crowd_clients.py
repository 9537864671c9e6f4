"""Many clients at once, in a process of their own: cameras at a pace, and others that never rest.

`python -m benchmarks.crowd_clients ADDRESS PLAN` takes a `CrowdPlan` as JSON and prints a `Client`
for each client as JSON. Each has a connection of its own, as clients on machines of their own have.
The frames' pictures are made beforehand: these clients share the machine with what they measure.

When the time is over a client sends no more, ends its half of the stream and takes all answers that
are still to come. No client ever cancels its stream, unless nothing is answered to any of them for
a minute: so a frame without an answer is one that Tandem has lost.
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

from common.domain.detections import OverloadPolicy, StreamOptions
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
# What has not been answered when nothing came to any client for so long never will be.
_STALLED_SECONDS = 60.0
_CONNECTED_AT_A_TIME = 16
_SIZE, _JPEG_QUALITY, _MAX_PIXELS = (128, 96), 85, 1 << 24


@dataclass(frozen=True)
class CrowdPlan:
    """Who sends what.

    Attributes:
        placement: of every stream.
        paced: how many clients send at a pace.
        frames_per_second: of each of those.
        is_live: whether the newest frame of those wins, so that the others are dropped.
        greedy: how many send as fast as their frames are taken; all of these are to be served.
        in_flight: frames that a greedy client has sent and that are not answered yet.
        warm_up_seconds: left out of what is measured.
        seconds: measured.
    """

    placement: str
    paced: int = 256
    frames_per_second: float = 2.0
    is_live: bool = False
    greedy: int = 16
    in_flight: int = 33
    warm_up_seconds: float = 5.0
    seconds: float = 20.0


@dataclass
class Client:
    """What one client saw; latencies in seconds.

    Attributes:
        is_paced: whether it sent at a pace.
        due: frames that it would have sent within the measured time, had all been taken at once.
        sent: frames, over the whole run.
        answered: answers of any kind to these.
        repeated: answers to a frame that was answered already.
        reordered: answers that came after that of a later frame.
        dropped: answers that say that a newer frame was served instead.
        failed: answers that are errors.
        fault: the first of these errors; empty if there is none.
        ended: with what status its stream ended, if not OK, and by whom; empty if OK.
        latencies: of the detections that came within the measured time, from when the frame was
            due.
    """

    is_paced: bool
    due: int = 0
    sent: int = 0
    answered: int = 0
    repeated: int = 0
    reordered: int = 0
    dropped: int = 0
    failed: int = 0
    fault: str = ""
    ended: str = ""
    latencies: list[float] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Frames without an answer."""
        return self.sent - (self.answered - self.repeated)


class _LatestAnswer:
    """When any client was last answered."""

    def __init__(self) -> None:
        self.at = time.monotonic()

    async def wait_stalled(self) -> None:
        """Wait until nothing has come for a long time."""
        while (left := self.at + _STALLED_SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(left)


class _Run:
    """One client's stream."""

    def __init__(
        self, plan: CrowdPlan, client: Client, image: bytes, began: float, phase: float
    ) -> None:
        self.client = client
        self._plan = plan
        self._measured_from = began + plan.warm_up_seconds
        self._end = self._measured_from + plan.seconds
        self._first_due = began + phase / plan.frames_per_second
        self._image = image
        self._due: list[float] = []
        self._answered: set[int] = set()
        self._latest = -1
        self._slots = asyncio.Semaphore(plan.in_flight)

    async def run(self, channel: grpc.aio.Channel, latest: _LatestAnswer) -> None:
        """Send until the time is over, and take every answer, until the server ends the stream."""
        told = message_bytes_metadata(len(self._image))
        call: Any = channel.stream_stream(_DETECT)(metadata=told)
        ending = CallEnding(call)
        sending = asyncio.create_task(self._send(call))
        taking = asyncio.create_task(self._take_all(call, latest))
        stalled = asyncio.create_task(latest.wait_stalled())
        await asyncio.wait({taking, stalled}, return_when=asyncio.FIRST_COMPLETED)
        given_up = not taking.done()
        for task in (sending, taking, stalled):
            task.cancel()
        await asyncio.gather(sending, taking, stalled, return_exceptions=True)
        if given_up:
            self.client.ended = f"given up by the client after {_STALLED_SECONDS:g} s"
            return
        await ending.wait()
        if ending.code not in (None, grpc.StatusCode.OK):
            self.client.ended = f"by the server, {ending.code.name}: {ending.details}"

    @property
    def _opening(self) -> bytes:
        is_live = self._plan.is_live and self.client.is_paced
        options = StreamOptions(
            requested_pair=NodePair.parse(self._plan.placement),
            overload=OverloadPolicy.DROP_OLDEST if is_live else OverloadPolicy.BLOCK,
        )
        opening = detector_pb2.DetectRequest(options=stream_options_to_wire(options))
        return opening.SerializeToString()

    async def _take_all(self, call: Any, latest: _LatestAnswer) -> None:
        while (data := await call.read()) is not grpc.aio.EOF:
            latest.at = time.monotonic()
            self._take(detector_pb2.DetectResponse.FromString(data), latest.at)

    async def _send(self, call: Any) -> None:
        await call.write(self._opening)
        async for number in self._numbers():
            frame = detector_pb2.Frame(frame_id=number, encoded=self._image)
            self.client.sent += 1
            await call.write(detector_pb2.DetectRequest(frame=frame).SerializeToString())
        await call.done_writing()

    def _numbers(self) -> AsyncIterator[int]:
        return self._paced() if self.client.is_paced else self._greedy()

    async def _greedy(self) -> AsyncIterator[int]:
        """The number of each frame, as soon as one more may be in flight."""
        while True:
            await self._slots.acquire()
            now = time.monotonic()
            if now >= self._end:
                return
            self._due.append(now)
            yield len(self._due) - 1

    async def _paced(self) -> AsyncIterator[int]:
        """The number of each frame when it is due, or later if those before were not taken."""
        due, period = self._first_due, 1 / self._plan.frames_per_second
        self.client.due = sum(
            self._measured_from <= self._first_due + number * period < self._end
            for number in range(int((self._end - self._first_due) / period) + 1)
        )
        while due < self._end:
            await asyncio.sleep(due - time.monotonic())
            if time.monotonic() >= self._end:
                return
            self._due.append(due)
            yield len(self._due) - 1
            due += period

    def _take(self, response: detector_pb2.DetectResponse, now: float) -> None:
        client, kind = self.client, response.WhichOneof("result")
        client.answered += 1
        client.repeated += response.frame_id in self._answered
        client.reordered += response.frame_id < self._latest
        client.dropped += kind == "dropped"
        if kind not in ("detections", "dropped"):
            client.failed += 1
            client.fault = client.fault or response.error.message
        self._answered.add(response.frame_id)
        self._latest = max(self._latest, response.frame_id)
        self._slots.release()
        if kind == "detections" and self._measured_from <= now < self._end:
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
    latest = _LatestAnswer()
    await asyncio.gather(
        *(each.run(channel, latest) for each, channel in zip(runs, channels, strict=True))
    )
    await asyncio.gather(*(channel.close() for channel in channels))
    return clients


def main() -> None:
    """Run and print."""
    address, plan = sys.argv[1:]
    clients = asyncio.run(run(address, CrowdPlan(**json.loads(plan))))
    json.dump([asdict(client) for client in clients], sys.stdout)


if __name__ == "__main__":
    main()
