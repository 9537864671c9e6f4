"""The orchestrator alone: how many frames a second one core passes on.

The stages answer at once and the clients' messages are made beforehand, so that the service in
the middle is the bottleneck; a bare `grpc.aio` relay in its place shows what gRPC itself costs.
A relay takes all frames that a client sends, and the orchestrator's own window is two of a stream
where the stages answer at once. So it is measured with a window of the relay's size as well. Beside
the rates stands the processor time of a frame: the core of the clients may limit the relay's rate.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import grpc

from benchmarks.camera import client_credentials
from benchmarks.hosts import LOCAL_EDGE, LOCAL_WORKSTATION, Host
from benchmarks.instant import PROCESS
from benchmarks.processor_time import seconds_by_core
from benchmarks.report import Row
from common.domain.errors import ServiceError
from common.domain.placement import EDGE, WORKSTATION
from common.wire.channels import ServerChannel
from protos.tandem.v1 import detector_pb2, stage_pb2
from tandem.processes import ServiceProcess

_FRAME_BYTES = 20_000
_STREAMS = 4
_IN_FLIGHT = 16
FRAMES = 4000
"""Of a measurement, over all streams, beside those that warm it up."""
_WARM_UP_FRAMES = 400
_DETECT = "/tandem.v1.Detector/Detect"
_MODULE = "benchmarks.relaying"
_INSTANT = "benchmarks.instant"


class Passing(NamedTuple):
    """How a service in the middle passes frames on.

    Attributes:
        frames_per_second: over all streams.
        processor_seconds: of its core, for a frame.
    """

    frames_per_second: float
    processor_seconds: float


async def relay_rates(
    repetitions: int, windows: Sequence[int] = (0,)
) -> AsyncGenerator[list[Passing]]:
    """A bare relay first, then an orchestrator with each of these windows, alone on a core in turn.

    Args:
        repetitions: so many times.
        windows: frames of a stream under way; 0: the orchestrator finds it.

    Raises:
        ServiceError: a process failed.
    """
    started: list[ServiceProcess] = []

    async def start(host: Host, name: str, module: str, *arguments: str) -> str:
        started.append(await host.start(name, module, arguments))
        return (await started[-1].announcement()).address

    try:
        stage = await start(LOCAL_WORKSTATION, "stage", _INSTANT, "stage")
        relay = await start(LOCAL_EDGE, "relay", _INSTANT, "relay", stage)
        stages = {"backbone": stage, "transformer": stage}
        nodes = json.dumps({EDGE: stages, WORKSTATION: stages})
        listening = ("--port", "0", "--metrics-port", "0", "--log-level", "warning")
        service = ("orchestrator", "services.orchestrator", "--nodes", nodes, *listening)
        orchestrators = [
            await start(LOCAL_EDGE, *service, "--window", str(window)) for window in windows
        ]
        for _ in range(repetitions):
            relayed = await _passing(PROCESS, relay)
            yield [relayed, *[await _passing(_DETECT, each) for each in orchestrators]]
    finally:
        for process in reversed(started):
            await process.stop()


async def orchestrator_alone() -> list[Row]:
    """The orchestrator beside a bare relay, with its own window and with as many frames."""
    what = "orchestrator alone, 20 kB frames, one core"
    names = {0: what, _IN_FLIGHT: f"{what}, a window of {_IN_FLIGHT}"}
    async with aclosing(relay_rates(1, tuple(names))) as rates:
        relay, *orchestrators = await anext(rates)
    return [
        Row(
            name,
            each.frames_per_second,
            "frames/s",
            1000,
            f"{1e6 * each.processor_seconds:.0f} us of processor time a frame; a bare grpc.aio "
            f"relay: {relay.frames_per_second:.0f} frames/s, "
            f"{1e6 * relay.processor_seconds:.0f} us",
        )
        for name, each in zip(names.values(), orchestrators, strict=True)
    ]


async def _passing(method: str, address: str) -> Passing:
    before = seconds_by_core()[LOCAL_EDGE.core]
    fps = float(await LOCAL_WORKSTATION.run(_MODULE, method, address))
    seconds = seconds_by_core()[LOCAL_EDGE.core] - before
    return Passing(fps, seconds / (FRAMES + _WARM_UP_FRAMES))


async def orchestrator_rate(address: str, certificates: str = "", frames: int = FRAMES) -> float:
    """Rate of an orchestrator, frames a second; `certificates` as of `benchmarks.camera`."""
    arguments = (_DETECT, address, certificates, str(frames))
    return float(await LOCAL_WORKSTATION.run(_MODULE, *arguments))


async def load(
    method: str, address: str, certificates: str = "", frames: int | str = FRAMES
) -> float:
    """Frames a second over all streams."""
    started = [0.0] * _STREAMS
    credentials = client_credentials(certificates)
    server = ServerChannel(
        address,
        tls=None if credentials is None else credentials.load(),
        server_name="" if credentials is None else credentials.server_name,
    )
    async with server.current as channel:
        counts = await asyncio.gather(
            *(_stream(channel, method, index, started, int(frames)) for index in range(_STREAMS))
        )
        return sum(counts) / (time.perf_counter() - min(started))


async def _stream(
    channel: grpc.aio.Channel, method: str, index: int, started: list[float], count: int
) -> int:
    """One stream; the frames counted are those after its warm-up."""
    opening, frames = _messages(method, count)
    call: Any = channel.stream_stream(method)()
    await call.write(opening)
    if method == PROCESS:
        await call.read()
    slots = asyncio.Semaphore(_IN_FLIGHT)

    async def send() -> None:
        for frame in frames:
            await slots.acquire()
            await call.write(frame)
        await call.done_writing()

    sending = asyncio.create_task(send())
    answered = 0
    while (answer := await call.read()) is not grpc.aio.EOF:
        if method == _DETECT:
            _check(answer)
        slots.release()
        answered += 1
        if answered == _WARM_UP_FRAMES // _STREAMS:
            started[index] = time.perf_counter()
    await sending
    return answered - _WARM_UP_FRAMES // _STREAMS


def _check(answer: bytes) -> None:
    """Check that a frame was served: an orchestrator that answers with errors is fast.

    Raises:
        ServiceError: it was not.
    """
    response = detector_pb2.DetectResponse.FromString(answer)
    if response.WhichOneof("result") != "detections":
        raise ServiceError(f"a frame failed: {response.error.message}")


def _messages(method: str, frames: int) -> tuple[bytes, Iterator[bytes]]:
    data = bytes(_FRAME_BYTES)
    count = (frames + _WARM_UP_FRAMES) // _STREAMS
    images = [detector_pb2.Frame(frame_id=index, encoded=data) for index in range(count)]
    if method == PROCESS:
        opening = stage_pb2.BackboneRequest(open=stage_pb2.BackboneOpen())
        made = [stage_pb2.BackboneRequest(frame=image).SerializeToString() for image in images]
        return opening.SerializeToString(), iter(made)
    options = detector_pb2.DetectRequest(options=detector_pb2.StreamOptions())
    made = [detector_pb2.DetectRequest(frame=image).SerializeToString() for image in images]
    return options.SerializeToString(), iter(made)


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(load(*sys.argv[1:]))}\n")
