"""Many peers at once: distinct names by the thousand, the largest messages on many streams."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.message import Message

from benchmarks.hostile import calls
from benchmarks.hostile.honest import Honest
from benchmarks.hostile.system import System
from common.server.budget import MESSAGES_BUFFERED
from protos.tandem.v1 import detector_pb2, stage_pb2, tensor_pb2
from tests.attacks import calls_from

MESSAGE_BYTES = 64 << 20
"""The largest that the services take if not told otherwise."""
BUDGET_BYTES = MESSAGES_BUFFERED * MESSAGE_BYTES
"""What they hold of them at most, if not told otherwise."""
SESSIONS = 64
# Hosts of the loopback: one alone would be held to half.
_HOSTS = tuple(f"127.0.0.{number}" for number in (2, 3, 4, 5))
_AT_A_TIME = 16
_FRAMES = 2
_WIDTH, _HEIGHT = 5000, 4400


async def introduce(system: System, honest: Honest, senders: int) -> None:
    """Let so many senders, each of a name of its own, send a frame to each service."""
    numbers = iter(range(senders))
    await asyncio.gather(*(_introduce(system, honest, numbers) for _ in range(_AT_A_TIME)))


async def _introduce(system: System, honest: Honest, numbers: Iterator[int]) -> None:
    targets = system.targets
    channels = {each: calls.channel_to(each) for each in targets.grpc}
    try:
        for number in numbers:
            name = f"sender-{number}"
            features = stage_pb2.TransformerRequest(features=honest.some_features())
            sent = _serialized(honest.transformer_opening(name), features)
            await calls.stream(channels[targets.transformer], calls.TRANSFORMER, sent)
            opening = honest.backbone_opening()
            opening.open.context.sender = opening.open.context.session_id = name
            frame = detector_pb2.Frame(encoded=honest.pictures[0])
            sent = _serialized(opening, stage_pb2.BackboneRequest(frame=frame))
            await calls.stream(channels[targets.backbone], calls.BACKBONE, sent)
            options = detector_pb2.StreamOptions(backbone_node=name, transformer_node=name)
            sent = _serialized(
                detector_pb2.DetectRequest(options=options), detector_pb2.DetectRequest(frame=frame)
            )
            await calls.stream(channels[targets.orchestrator], calls.DETECT, sent)
    finally:
        for channel in channels.values():
            await channel.close()


def _serialized(*messages: Message) -> list[bytes]:
    return [each.SerializeToString() for each in messages]


async def flood(system: System, bundle: Path, seconds: float) -> dict[str, int]:
    """Send the largest messages over many streams, to each service in turn.

    Each in a process of its own, which is killed after its share of the time: a sender that is
    stuck in so many large writes, as happens, must not keep the rest waiting.

    Returns:
        The most that each service took beyond what it took before, bytes.
    """
    targets = system.targets
    async with system.sampled_memory() as most:
        for address, method in (
            (targets.orchestrator, calls.DETECT),
            (targets.backbone, calls.BACKBONE),
            (targets.transformer, calls.TRANSFORMER),
        ):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__, address, method, str(bundle)),
                stderr=asyncio.subprocess.DEVNULL,
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), seconds / 3)
            if process.returncode is None:
                process.kill()
                await process.wait()
    return most


async def _flood(address: str, method: str, honest: Honest) -> None:
    messages = list(_largest(method, honest))
    async with contextlib.AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(calls_from(host, address)) for host in _HOSTS]
        await asyncio.gather(
            *(_stream(relays[number % len(relays)], method, messages) for number in range(SESSIONS))
        )


def _largest(method: str, honest: Honest) -> Iterator[bytes]:
    """A stream of the largest messages."""
    raw = detector_pb2.RawImage(
        width=_WIDTH,
        height=_HEIGHT,
        pixel_format=detector_pb2.PIXEL_FORMAT_RGB8,
        data=bytes(3 * _WIDTH * _HEIGHT),
    )
    if method == calls.BACKBONE:
        yield honest.backbone_opening().SerializeToString()
    elif method == calls.TRANSFORMER:
        yield honest.transformer_opening().SerializeToString()
    for number in range(1, _FRAMES + 1):
        frame = detector_pb2.Frame(frame_id=number, raw=raw)
        if method == calls.DETECT:
            yield detector_pb2.DetectRequest(frame=frame).SerializeToString()
        elif method == calls.BACKBONE:
            yield stage_pb2.BackboneRequest(frame=frame).SerializeToString()
        else:
            tensor = tensor_pb2.Tensor(
                shape=honest.feature_shape, codec=tensor_pb2.CODEC_FP32, data=raw.data
            )
            features = honest.features_like(tensor)
            features.frame_id = number
            yield stage_pb2.TransformerRequest(features=features).SerializeToString()


async def _stream(address: str, method: str, messages: Sequence[bytes]) -> None:
    channel = calls.channel_to(address)
    try:
        await calls.stream(channel, method, messages)
    finally:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(_flood(sys.argv[1], sys.argv[2], Honest(Path(sys.argv[3]))))
