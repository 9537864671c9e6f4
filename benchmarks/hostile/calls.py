"""Calls whose messages are bytes, as a peer makes them that has no use for protobuf."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from common.wire.connections import CallEnding, open_channel

DETECT = "/tandem.v1.Detector/Detect"
BACKBONE = "/tandem.v1.Backbone/Process"
TRANSFORMER = "/tandem.v1.Transformer/Process"
GET_STATUS = "/tandem.v1.Operations/GetStatus"
WATCH_STATUS = "/tandem.v1.Operations/WatchStatus"
SET_PLACEMENT = "/tandem.v1.Operations/SetPlacement"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
]
_CALL_SECONDS = 120.0
# Of a watch, which goes on until it is cancelled.
_WATCHED_ANSWERS = 2
_SOCKET_SECONDS = 0.3
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Exchange:
    """What came of a call.

    Attributes:
        method: that was called.
        answers: as they came.
        code: how the server ended it; None if it did not, for minutes.
        words: the server's, with the code.
    """

    method: str
    answers: Sequence[bytes]
    code: grpc.StatusCode | None
    words: str


def channel_to(address: str) -> grpc.aio.Channel:
    """A connection of its own."""
    return open_channel(address, _OPTIONS)


async def stream(channel: grpc.aio.Channel, method: str, messages: Iterable[bytes]) -> Exchange:
    """Send all messages, and take what comes until the server ends the stream."""
    serve: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    call = serve(iter(messages))
    return await _taken(call, method, None)


async def watch(channel: grpc.aio.Channel, method: str, message: bytes) -> Exchange:
    """Send the only message, take a few answers, and end the call."""
    serve: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(method)
    call = serve(message)
    return await _taken(call, method, _WATCHED_ANSWERS)


async def ask(channel: grpc.aio.Channel, method: str, message: bytes) -> Exchange:
    """Send a message and take its answer."""
    serve: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    try:
        answer = await serve(message, timeout=_CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        return Exchange(method, (), error.code(), error.details() or "")
    return Exchange(method, (answer,), grpc.StatusCode.OK, "")


async def _taken(call: Any, method: str, most: int | None) -> Exchange:
    ending = CallEnding(call)
    answers: list[bytes] = []
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for answer in call:
                    answers.append(answer)
                    if len(answers) == most:
                        return Exchange(method, answers, grpc.StatusCode.OK, "")
            await ending.wait()
    except TimeoutError:
        return Exchange(method, answers, None, "")
    finally:
        call.cancel()
    return Exchange(method, answers, ending.code, ending.details)


async def send_to_socket(address: str, data: bytes) -> None:
    """Send bytes that may be of any protocol, and wait a moment for the end of the connection."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(_SOCKET_SECONDS):
                writer.write(data)
                await writer.drain()
                while await reader.read(_READ_BYTES):
                    pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
