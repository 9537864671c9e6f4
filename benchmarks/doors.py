"""What do the gateway's doors for single pictures cost?

`python -m benchmarks.doors` sends the same frames by gRPC to the orchestrator and through each
door, in turn to the same system, whose engines are paced at a known speed: how many frames a second
each way sustains, what it adds to the latency of a frame that never waits, and how long the gateway
computes for a frame, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil

from benchmarks.cluster import Cluster, ClusterPlan
from benchmarks.hosts import LOCAL_EDGE, run_to_end
from benchmarks.report import Row, conclude
from benchmarks.suite import PACE_MS, clip_images
from common.domain.errors import ServiceError
from common.domain.placement import Placement, Stage
from protos.inference import open_inference_pb2 as messages
from protos.inference import open_inference_pb2_grpc
from tandem.client import DetectorClient
from tandem.shipped import shipped_bundle

_CALLERS = 16
_REQUIRED_SHARE = 0.95
_MOST_ADDED_MS = 10.0
_DOORS = ("detection-api", "open-inference")
_BOUNDARY = "tandem-benchmark"

Ask = Callable[[bytes], Awaitable[None]]
"""Sends a picture and waits for its answer."""


class Way:
    """One way of sending pictures; an asynchronous context manager of what its callers share.

    A way gives each of its callers a function that sends a picture and waits for the answer.
    """

    def caller(self) -> Ask:
        """A new caller."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close what the callers share."""


class DirectWay(Way):
    """The Python client at the orchestrator: each caller has a stream of its own."""

    def __init__(self, client: DetectorClient) -> None:
        """Send by `client`, which is connected."""
        self._client = client
        self._streams: list[_Stream] = []

    def caller(self) -> Ask:
        """See `Way`."""
        stream = _Stream(self._client)
        self._streams.append(stream)
        return stream.ask

    async def close(self) -> None:
        """See `Way`."""
        for stream in self._streams:
            await stream.close()


class _Stream:
    """A stream with one picture in flight."""

    def __init__(self, client: DetectorClient) -> None:
        self._pictures: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._results = client.detect(self._supplied(), max_in_flight=1)

    async def ask(self, picture: bytes) -> None:
        self._pictures.put_nowait(picture)
        result = await anext(self._results)
        if result.error is not None:
            raise result.error

    async def close(self) -> None:
        self._pictures.put_nowait(None)
        async for _ in self._results:
            pass

    async def _supplied(self) -> AsyncIterator[bytes]:
        while (picture := await self._pictures.get()) is not None:
            yield picture


class HttpWay(Way):
    """A form to `/v1/vision/detection`: each caller has a connection that stays open."""

    def __init__(self, address: str) -> None:
        """Send to the gateway at this address, `host:port`."""
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._writers: list[asyncio.StreamWriter] = []

    def caller(self) -> Ask:
        """See `Way`."""
        streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

        async def ask(picture: bytes) -> None:
            if streams and streams[0][0].at_eof():
                # The server closes connections that were silent for long.
                streams.clear()
            if not streams:
                streams.append(await asyncio.open_connection(self._host, self._port))
                self._writers.append(streams[0][1])
            reader, writer = streams[0]
            writer.write(_form(picture))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].split("\r\n")[0])
            content = await reader.readexactly(length)
            if " 200 " not in head.split("\r\n")[0]:
                raise ServiceError(f"the gateway answered {content[:200]!r}")

        return ask

    async def close(self) -> None:
        """See `Way`."""
        for writer in self._writers:
            writer.close()


class InferenceWay(Way):
    """`ModelInfer` of the Open Inference Protocol, a file in a BYTES tensor; one connection."""

    def __init__(self, address: str) -> None:
        """Send to the gateway at this address."""
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def caller(self) -> Ask:
        """See `Way`."""

        async def ask(picture: bytes) -> None:
            await self._stub.ModelInfer(_inference(picture))

        return ask

    async def close(self) -> None:
        """See `Way`."""
        await self._channel.close()


class InferenceStreamWay(InferenceWay):
    """`ModelStreamInfer` of the same protocol: each caller has a stream."""

    def caller(self) -> Ask:
        """See `Way`."""
        call = self._stub.ModelStreamInfer()

        async def ask(picture: bytes) -> None:
            await call.write(_inference(picture))
            answer = await call.read()
            if answer.error_message:
                raise ServiceError(answer.error_message)

        return ask


def _form(picture: bytes) -> bytes:
    body = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    ).encode()
    body += picture + f"\r\n--{_BOUNDARY}--\r\n".encode()
    head = (
        "POST /v1/vision/detection HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _inference(picture: bytes) -> messages.ModelInferRequest:
    tensor = messages.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    data = struct.pack("<I", len(picture)) + picture
    return messages.ModelInferRequest(
        model_name="tandem", inputs=[tensor], raw_input_contents=[data]
    )


async def rate_of(way: Way, pictures: Iterator[bytes], frames: int, callers: int) -> float:
    """Frames a second that so many callers reach together."""
    remaining = iter(range(frames))

    async def call(ask: Ask) -> None:
        for _ in remaining:
            await ask(next(pictures))

    asks = [way.caller() for _ in range(callers)]
    # Connections and streams are open before it counts.
    await asyncio.gather(*(ask(next(pictures)) for ask in asks))
    began_at = time.perf_counter()
    await asyncio.gather(*(call(ask) for ask in asks))
    return frames / (time.perf_counter() - began_at)


async def latency_of(way: Way, pictures: Iterator[bytes], frames: int) -> float:
    """Median milliseconds of a picture that waits for no other."""
    ask = way.caller()
    await ask(next(pictures))
    seconds = []
    for _ in range(frames):
        began_at = time.perf_counter()
        await ask(next(pictures))
        seconds.append(time.perf_counter() - began_at)
    return statistics.median(seconds) * 1000


@dataclass(frozen=True)
class Ways:
    """The ways into a running system.

    Attributes:
        makers: what makes a way, by its name; the first one does without the gateway.
        gateway: its process.
    """

    makers: dict[str, Callable[[], Way]]
    gateway: psutil.Process

    def processor_seconds(self) -> float:
        """That the gateway has computed for."""
        times = self.gateway.cpu_times()
        return times.user + times.system


@asynccontextmanager
async def running_ways() -> AsyncIterator[Ways]:
    """A system with a gateway, for as long as the context lasts."""
    paced = dict.fromkeys(Stage, PACE_MS)
    patient = ("--health-timeout-seconds", "30", "--unavailable-after", "60")
    plan = ClusterPlan(
        shipped_bundle(),
        engine="none",
        paced_milliseconds=paced,
        orchestrator=("--placement", Placement.BACKBONE.value, *patient),
    )
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster(plan))
        address = cluster.orchestrator.address
        doors = (*(f"--{door}" for door in _DOORS), "--log-level", "warning")
        ports = ("--port", "0", "--http-port", "0", "--metrics-port", "0")
        limits = [f"--{door}-max-requests-per-second=100000" for door in _DOORS]
        arguments = ["--orchestrator", address, *doors, *ports, *limits]
        gateway = await LOCAL_EDGE.start("gateway", "services.gateway", arguments)
        stack.push_async_callback(gateway.stop)
        told = await gateway.announcement()
        http = str(gateway.told["http"]).partition("//")[2]
        client = await stack.enter_async_context(DetectorClient(address))
        makers: dict[str, Callable[[], Way]] = {
            "gRPC at the orchestrator": lambda: DirectWay(client),
            "POST /v1/vision/detection": lambda: HttpWay(http),
            "ModelInfer": lambda: InferenceWay(told.address),
            "ModelStreamInfer": lambda: InferenceStreamWay(told.address),
        }
        yield Ways(makers, psutil.Process(told.pid))


@dataclass
class Figures:
    """Of one way, one a repetition.

    Attributes:
        rates: frames a second.
        latencies: milliseconds.
        costs: milliseconds of the gateway's processor for a frame.
    """

    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)


async def measure(repetitions: int, frames: int) -> list[Row]:
    """Measure all."""
    pictures = itertools.cycle([image.data for image in clip_images()])
    figures: dict[str, Figures] = {}
    async with running_ways() as ways:
        for _ in range(repetitions):
            for name, make in ways.makers.items():
                found, way = figures.setdefault(name, Figures()), make()
                before = ways.processor_seconds()
                found.rates.append(await rate_of(way, pictures, frames, _CALLERS))
                spent = ways.processor_seconds() - before
                found.costs.append(spent / (frames + _CALLERS) * 1000)
                found.latencies.append(await latency_of(way, pictures, frames // 10))
                await way.close()
    direct, *doors = figures
    rows = []
    for door in doors:
        rows += _rows(door, figures[door], direct, figures[direct])
    return rows


def _rows(door: str, found: Figures, direct: str, base: Figures) -> list[Row]:
    simulated = f"engines of {PACE_MS:g} + {PACE_MS:g} ms"
    rates = list(zip(found.rates, base.rates, strict=True))
    latencies = list(zip(found.latencies, base.latencies, strict=True))
    return [
        Row(
            f"{door}, {_CALLERS} callers: frames/s of those of {direct}",
            statistics.median(through / straight for through, straight in rates),
            "",
            _REQUIRED_SHARE,
            "; ".join(f"{through:.1f} / {straight:.1f}" for through, straight in rates),
            simulated,
        ),
        Row(
            f"{door}: latency beyond that of {direct}",
            statistics.median(through - straight for through, straight in latencies),
            "ms",
            _MOST_ADDED_MS,
            "; ".join(f"{through:.1f} - {straight:.1f}" for through, straight in latencies),
            simulated,
        ),
        Row(
            f"{door}: the gateway's processor, for a frame",
            statistics.median(found.costs),
            "ms",
            None,
            "; ".join(f"{each:.1f}" for each in found.costs),
        ),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doors", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="of each measurement")
    parser.add_argument("--frames", type=int, default=300, help="of each measurement of a rate")
    parser.add_argument("--csv", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    rows = run_to_end(measure(options.repetitions, options.frames))
    conclude("What the gateway's doors cost", rows, options.csv)


if __name__ == "__main__":
    main()
