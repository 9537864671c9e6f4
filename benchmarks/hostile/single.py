"""What one of the worst messages does to everybody else."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import grpc

from benchmarks.hostile import calls
from benchmarks.hostile.bystander import FRAME, Bystanders, Probe
from benchmarks.hostile.calls import Exchange
from benchmarks.hostile.system import BARE, System
from benchmarks.hostile.worst import TO_BARE, WorstMessage
from protos.tandem.v1 import detector_pb2, stage_pb2

# What a message has left to do once it has been answered is over by then.
_AFTERWARDS_SECONDS = 0.5


@dataclass(frozen=True)
class Delays:
    """Of those beside, while something was under way.

    Attributes:
        health_seconds: the longest, of any service.
        bare_seconds: the longest, of the bare server's health.
        frame_seconds: the longest.
        errors: what went wrong.
    """

    health_seconds: float
    bare_seconds: float
    frame_seconds: float
    errors: tuple[str, ...]

    @classmethod
    def of(cls, probes: list[Probe]) -> Delays:
        """The longest of each kind."""
        services = [each for each in probes if each.what not in (FRAME, BARE)]
        return cls(
            _longest(services),
            _longest([each for each in probes if each.what == BARE]),
            _longest([each for each in probes if each.what == FRAME]),
            tuple(f"{each.what}: {each.error}" for each in probes if each.error),
        )


def _longest(probes: list[Probe]) -> float:
    return max((each.seconds for each in probes), default=0.0)


@dataclass(frozen=True)
class Outcome:
    """Of one message.

    Attributes:
        name: of the message.
        sent_bytes: of it.
        is_ours: whether it went to Tandem; else to the bare server.
        told: the status with which it was answered.
        seconds: until its answer.
        delays: of those beside.
        answer_bytes: of the answer, if it was rejected.
        log_bytes: of the service that logged most.
    """

    name: str
    sent_bytes: int
    is_ours: bool
    told: str
    seconds: float
    delays: Delays
    answer_bytes: int
    log_bytes: int


async def baseline(bystanders: Bystanders, seconds: float) -> Delays:
    """What those beside see while nothing is sent."""
    start = time.monotonic()
    await asyncio.sleep(seconds)
    end = time.monotonic()
    await bystanders.after(end)
    return Delays.of(bystanders.between(start, end))


async def measure(system: System, bystanders: Bystanders, message: WorstMessage) -> Outcome:
    """Send one message, and look at everybody else."""
    data = message.make()
    sent_bytes = len(data)
    logged = await system.logs.so_far()
    start = time.monotonic()
    exchange = await _send(system, message, data)
    seconds = time.monotonic() - start
    del data
    await asyncio.sleep(_AFTERWARDS_SECONDS)
    end = time.monotonic()
    await bystanders.after(end)
    told, answer_bytes = _told(exchange)
    return Outcome(
        name=message.name,
        sent_bytes=sent_bytes,
        is_ours=message.method != TO_BARE,
        told=told,
        seconds=seconds,
        delays=Delays.of(bystanders.between(start, end)),
        answer_bytes=answer_bytes,
        log_bytes=max((await system.logs.so_far() - logged).values(), default=0),
    )


async def _send(system: System, message: WorstMessage, data: bytes) -> Exchange:
    targets = system.targets
    address = {
        calls.BACKBONE: targets.backbone,
        calls.TRANSFORMER: targets.transformer,
        TO_BARE: system.bare,
    }
    channel = calls.channel_to(address.get(message.method, targets.orchestrator))
    try:
        if message.method in (calls.HEALTH_CHECK, calls.SET_PLACEMENT):
            return await calls.ask(channel, message.method, data)
        return await calls.stream(channel, message.method, [*message.opening, data])
    finally:
        await channel.close()


def _told(exchange: Exchange) -> tuple[str, int]:
    """The answer in a word, and the bytes of a rejection."""
    if exchange.code is not grpc.StatusCode.OK:
        code = exchange.code.name if exchange.code else "never ended"
        return code, len(exchange.words.encode())
    if exchange.method == calls.DETECT:
        answers = [detector_pb2.DetectResponse.FromString(each) for each in exchange.answers]
        errors = [each.error for each in answers if each.HasField("error")]
    else:
        results = [stage_pb2.StageResponse.FromString(each).result for each in exchange.answers]
        errors = [each.error for each in results if each.HasField("error")]
    if not errors:
        return "served", 0
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    return names.get(errors[0].code, str(errors[0].code)), len(exchange.answers[-1])
