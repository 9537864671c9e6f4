"""Large messages: memory stays within the budget, and health answers beside them."""

import asyncio

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.tandem.v1 import detector_pb2
from tests.attacks import DETECT, RawStream, channel_to
from tests.harness import Cluster, ServiceProcess
from tests.streams import detect, frame, options

MEBIBYTE = 1 << 20
# Together they would send nearly three times the budget.
STREAMS = 32


@pytest.mark.alone
async def test_health_answers_beside_large_messages():
    cluster = Cluster(nodes=("edge",))
    large = [frame(number, bytes(48 * MEBIBYTE)) for number in (1, 2, 3)]
    delays = []

    async def look() -> None:
        async with channel_to(cluster.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                began = asyncio.get_running_loop().time()
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
                delays.append(asyncio.get_running_loop().time() - began)
                await asyncio.sleep(0.02)

    try:
        looking = asyncio.ensure_future(look())
        async with channel_to(cluster.address) as channel:
            stream = RawStream(channel, DETECT)
            await stream.send(*(each.SerializeToString() for each in large))
            for _ in large:
                answer = detector_pb2.DetectResponse.FromString(await stream.call.read())
                assert answer.error.code == 3
        looking.cancel()
        assert max(delays) < 4
    finally:
        cluster.close()


def resident_bytes(process: ServiceProcess, kind: str) -> int:
    """Resident memory as Linux tells it: `VmRSS` now, `VmHWM` at most so far."""
    with open(f"/proc/{process.process.pid}/status", encoding="ascii") as file:
        (line,) = [line for line in file if line.startswith(kind)]
    return int(line.split()[1]) << 10


async def test_the_largest_messages_on_many_streams_stay_within_the_budget():
    small = ("--max-message-mebibytes", "4", "--max-buffered-mebibytes", "96")
    cluster = Cluster(stage_arguments=small, orchestrator_arguments=small, nodes=("edge",))
    services = (cluster.orchestrator, *cluster.stages.values())
    payload = bytes(4 * MEBIBYTE - 1000)
    messages = [frame(number, payload).SerializeToString() for number in (1, 2)]
    answered = 0

    async def send() -> None:
        nonlocal answered
        async with channel_to(cluster.address) as channel:
            stream = RawStream(channel, DETECT)
            sending = asyncio.ensure_future(stream.send(options().SerializeToString(), *messages))
            for _ in messages:
                answer = await stream.call.read()
                answered += detector_pb2.DetectResponse.FromString(answer).error.code == 3
            await sending

    try:
        await detect(cluster.address, [options(), frame(1)])
        before = [resident_bytes(each, "VmRSS") for each in services]
        await asyncio.gather(*(send() for _ in range(STREAMS)))
        assert answered == 2 * STREAMS
        for service, base in zip(services, before):
            assert resident_bytes(service, "VmHWM") - base < 96 * MEBIBYTE
    finally:
        cluster.close()
