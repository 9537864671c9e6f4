"""The orchestrator alone: how many frames a second one core passes on.

The stages answer at once and the clients' messages are made beforehand, so that the service in
the middle is the bottleneck; a bare `grpc.aio` relay in its place shows what gRPC itself costs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from benchmarks.hosts import LOCAL_EDGE, LOCAL_WORKSTATION
from benchmarks.instant import PROCESS
from benchmarks.report import Row
from common.domain.placement import EDGE, WORKSTATION
from common.wire.connections import open_channel
from protos.tandem.v1 import detector_pb2, stage_pb2
from tandem.processes import ServiceProcess

_FRAME_BYTES = 20_000
_STREAMS = 4
_IN_FLIGHT = 16
_FRAMES = 4000
_WARM_UP_FRAMES = 400
_DETECT = "/tandem.v1.Detector/Detect"
_MODULE = "benchmarks.relaying"


async def orchestrator_alone() -> Row:
    """Rate of the orchestrator and of a bare relay, each alone on a core."""
    started: list[ServiceProcess] = []
    instant = "benchmarks.instant"
    try:
        stage = await LOCAL_WORKSTATION.start("stage", instant, ["stage"])
        started.append(stage)
        address = (await stage.announcement()).address
        relay = await LOCAL_EDGE.start("relay", instant, ["relay", address])
        started.append(relay)
        relay_fps = await _rate(PROCESS, (await relay.announcement()).address)
        stages = {"backbone": address, "transformer": address}
        with tempfile.TemporaryDirectory(prefix="tandem-") as folder:
            config = Path(folder) / "nodes.yaml"
            config.write_text(json.dumps({"nodes": {EDGE: stages, WORKSTATION: stages}}))
            arguments = ["--config", str(config), "--port", "0", "--metrics-port", "0"]
            orchestrator = await LOCAL_EDGE.start(
                "orchestrator", "services.orchestrator", arguments
            )
            started.append(orchestrator)
            fps = await _rate(_DETECT, (await orchestrator.announcement()).address)
    finally:
        for process in reversed(started):
            await process.stop()
    return Row(
        "orchestrator alone, 20 kB frames, one core",
        fps,
        "frames/s",
        1000,
        f"a bare grpc.aio relay: {relay_fps:.0f} frames/s",
    )


async def _rate(method: str, address: str) -> float:
    return float(await LOCAL_WORKSTATION.run(_MODULE, method, address))


async def load(method: str, address: str) -> float:
    """Frames a second over all streams."""
    started = [0.0] * _STREAMS
    async with open_channel(address) as channel:
        counts = await asyncio.gather(
            *(_stream(channel, method, index, started) for index in range(_STREAMS))
        )
        return sum(counts) / (time.perf_counter() - min(started))


async def _stream(channel: grpc.aio.Channel, method: str, index: int, started: list[float]) -> int:
    """One stream; the frames counted are those after its warm-up."""
    opening, frames = _messages(method)
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
    while await call.read() is not grpc.aio.EOF:
        slots.release()
        answered += 1
        if answered == _WARM_UP_FRAMES // _STREAMS:
            started[index] = time.perf_counter()
    await sending
    return answered - _WARM_UP_FRAMES // _STREAMS


def _messages(method: str) -> tuple[bytes, Iterator[bytes]]:
    data = bytes(_FRAME_BYTES)
    count = (_FRAMES + _WARM_UP_FRAMES) // _STREAMS
    frames = [detector_pb2.Frame(frame_id=index, encoded=data) for index in range(count)]
    if method == PROCESS:
        opening = stage_pb2.BackboneRequest(open=stage_pb2.BackboneOpen())
        made = [stage_pb2.BackboneRequest(frame=frame).SerializeToString() for frame in frames]
        return opening.SerializeToString(), iter(made)
    options = detector_pb2.DetectRequest(options=detector_pb2.StreamOptions())
    made = [detector_pb2.DetectRequest(frame=frame).SerializeToString() for frame in frames]
    return options.SerializeToString(), iter(made)


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(load(*sys.argv[1:]))}\n")
