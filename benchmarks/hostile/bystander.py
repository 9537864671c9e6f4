"""Who is beside the attack: health checks of every service, and a well-behaved camera.

`python -m benchmarks.hostile.bystander SERVICES` runs them in a process of their own,
so that the attackers' work does not count as a delay, and prints a line of JSON for each check and
frame. SERVICES is JSON: the address of each service by its name, the orchestrator's among them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2

from benchmarks.hostile.calls import DETECT, HEALTH_CHECK, ask, channel_to
from benchmarks.hostile.honest import picture_files
from protos.tandem.v1 import detector_pb2

ORCHESTRATOR = "orchestrator"
FRAME = "frame"
_HEALTH_INTERVAL_SECONDS = 0.05
_FRAME_INTERVAL_SECONDS = 0.1
_MOST_SECONDS = 150.0
_SERVING = health_pb2.HealthCheckResponse(
    status=health_pb2.HealthCheckResponse.SERVING
).SerializeToString()


@dataclass(frozen=True)
class Probe:
    """One check, or one frame.

    Attributes:
        what: the service's name, or `FRAME`.
        began: when it was due, by `time.monotonic`, which the machine's processes share.
        seconds: until its answer.
        error: what was wrong with that; empty if nothing was.
    """

    what: str
    began: float
    seconds: float
    error: str

    @property
    def ended(self) -> float:
        """When its answer came."""
        return self.began + self.seconds


class Bystanders:
    """The process, and what it has told so far; an asynchronous context manager.

    Attributes:
        probes: in the order of their answers.
    """

    def __init__(self, services: Mapping[str, str]) -> None:
        """Stand by these services, each an address by its name."""
        self._services = services
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._came = asyncio.Event()
        self.probes: list[Probe] = []

    async def __aenter__(self) -> Self:
        """Start, and wait for the first answer of each kind."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, json.dumps(self._services)),
            stdout=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read())
        await self.after(time.monotonic())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            await self._reader

    async def after(self, moment: float) -> None:
        """Wait until what began after this moment has been answered, of each kind."""
        kinds = {FRAME, *self._services}
        while {each.what for each in self.probes if each.began > moment} != kinds:
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), _MOST_SECONDS)

    def between(self, start: float, end: float) -> list[Probe]:
        """What was under way at any time in between."""
        return [each for each in self.probes if each.ended >= start and each.began <= end]

    async def _read(self) -> None:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("the process was started without a pipe")
        async for line in self._process.stdout:
            self.probes.append(Probe(**json.loads(line)))
            self._came.set()


def _tell(what: str, began: float, error: str = "") -> None:
    probe = Probe(what, began, time.monotonic() - began, error)
    sys.stdout.write(json.dumps(asdict(probe)) + "\n")
    sys.stdout.flush()


async def _check(name: str, address: str) -> None:
    async with channel_to(address) as channel:
        while True:
            began = time.monotonic()
            exchange = await ask(channel, HEALTH_CHECK, b"")
            is_serving = exchange.answers == (_SERVING,)
            _tell(name, began, "" if is_serving else f"not serving: {exchange.words}")
            await asyncio.sleep(_HEALTH_INTERVAL_SECONDS)


async def _film(address: str) -> None:
    """Stream frames at a camera's pace; a stream that ends is an error, and opened anew."""
    async with channel_to(address) as channel:
        while True:
            error = await _one_stream(channel)
            _tell(FRAME, time.monotonic(), error)


async def _one_stream(channel: grpc.aio.Channel) -> str:
    """Why the stream ended."""
    picture = picture_files()[0]
    due: list[float] = []

    async def send() -> None:
        began = time.monotonic()
        for number in range(1 << 62):
            moment = began + number * _FRAME_INTERVAL_SECONDS
            await asyncio.sleep(moment - time.monotonic())
            due.append(moment)
            frame = detector_pb2.Frame(frame_id=number, encoded=picture)
            await call.write(detector_pb2.DetectRequest(frame=frame).SerializeToString())

    call = channel.stream_stream(DETECT)()  # type: ignore[var-annotated]
    sending = asyncio.create_task(send())
    number = 0
    try:
        async for data in call:
            answer = detector_pb2.DetectResponse.FromString(data)
            is_right = answer.HasField("detections") and answer.frame_id == number
            _tell(FRAME, due[number], "" if is_right else str(answer.error)[:200] or "out of order")
            number += 1
    except grpc.aio.AioRpcError as failure:
        return f"{failure.code().name}: {failure.details()}"
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return "the stream was ended"


async def _stand_by(services: Mapping[str, str]) -> None:
    checks = [_check(name, address) for name, address in services.items()]
    await asyncio.gather(_film(services[ORCHESTRATOR]), *checks)


if __name__ == "__main__":
    asyncio.run(_stand_by(json.loads(sys.argv[1])))
