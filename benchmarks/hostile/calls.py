"""Calls whose messages are bytes, as a peer makes them without protobuf; and what came of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from common.wire.connections import CallEnding, open_channel
from tests import attacks

DETECT, BACKBONE, TRANSFORMER = attacks.DETECT, attacks.BACKBONE, attacks.TRANSFORMER
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
# What a caller may be told of its own fault. NOT_FOUND is health's, UNIMPLEMENTED gRPC's own, and
# ABORTED says of latents that they refer to what was not sent.
CALLER_S_FAULT = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_MOST_TOLD = 40
_CODES = {code.value[0]: code for code in grpc.StatusCode}


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


@dataclass(frozen=True)
class Targets:
    """Where the services listen, each as HOST:PORT.

    Attributes:
        orchestrator: gRPC.
        backbone: the edge's.
        transformer: the edge's.
        metrics: of each.
    """

    orchestrator: str
    backbone: str
    transformer: str
    metrics: Sequence[str]

    @property
    def grpc(self) -> tuple[str, ...]:
        """Of all services."""
        return (self.orchestrator, self.backbone, self.transformer)


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


@dataclass
class Tally:
    """Counts; what is wrong is kept in words.

    Attributes:
        messages: sent, pictures and connections included.
        pictures: of these, frames.
        rejected: calls and frames that were told a fault of their own.
        codes: of calls and frames, by method.
        wrong_codes: a caller's fault told as one of the server's, or a call that never ended.
        broken: frames lost, doubled or reordered.
        largest_answer_bytes: of what was rejected.
        crashes: pictures that ended the process that decoded them, which is made for that.
    """

    messages: int = 0
    pictures: int = 0
    rejected: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    wrong_codes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    largest_answer_bytes: int = 0
    crashes: int = 0

    def ended(self, exchange: Exchange) -> None:
        """A call has ended."""
        code = exchange.code
        told = "never ended" if code is None else code.name
        if code is not grpc.StatusCode.OK:
            size = len(exchange.words.encode())
            self._refused(code, size, exchange.method, f"{told}: {exchange.words}")
        else:
            self.codes[f"{exchange.method} {told}"] += 1

    def frame_failed(self, method: str, code: int, answer: bytes, words: str) -> None:
        """A frame was answered with an error."""
        self.crashes += "crashes the decoder" in words
        known = _CODES.get(code)
        self._refused(known, len(answer), f"{method} frame", f"code {code}: {words}")

    def in_order(self, method: str, wanted: list[int], got: list[int], most: int) -> None:
        """Of a stream's frames, those with the ids `wanted` have to be answered, in this order.

        Args:
            method: of the stream.
            wanted: ids of frames that the server must have accepted.
            got: ids of the answers.
            most: answers that there may be: more messages followed that may have been frames.
        """
        if got[: len(wanted)] != wanted or len(got) > most:
            self._tell(self.broken, f"{method}: {len(wanted)} frames, answered: {got}"[:300])

    def _refused(self, code: grpc.StatusCode | None, size: int, what: str, words: str) -> None:
        self.codes[f"{what} {'never ended' if code is None else code.name}"] += 1
        if code not in CALLER_S_FAULT:
            self._tell(self.wrong_codes, f"{what}: {words}"[:300])
            return
        self.rejected += 1
        self.largest_answer_bytes = max(self.largest_answer_bytes, size)

    def _tell(self, kept: list[str], words: str) -> None:
        if len(kept) < _MOST_TOLD:
            kept.append(words)
