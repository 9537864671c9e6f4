"""What careless and hostile peers send: raw bytes, silence, many streams. Runs on Python 3.8."""

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import Any, AsyncIterator, Optional, Set, Tuple

import grpc

from common.wire.connections import CallEnding
from tests.waiting import PATIENCE_SECONDS

DETECT = "/tandem.v1.Detector/Detect"
BACKBONE = "/tandem.v1.Backbone/Process"
TRANSFORMER = "/tandem.v1.Transformer/Process"
OWN_CONNECTION = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    # Who does not read takes few answers.
    ("grpc.http2.bdp_probe", 0),
]


def delimited(number: int, content: bytes) -> bytes:
    """A field of this number that holds a text, bytes, packed numbers or a message."""
    length, prefix = len(content), bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *prefix, length]) + content


class RawStream:
    """A stream of a method, whose messages are bytes."""

    def __init__(self, channel: grpc.aio.Channel, method: str) -> None:
        self.call: Any = channel.stream_stream(method)()
        self.ending = CallEnding(self.call)

    async def send(self, *messages: bytes) -> None:
        """Write; that the server has ended the stream is told by `end`."""
        for message in messages:
            try:
                await self.call.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return

    async def end(self) -> Tuple[Optional[grpc.StatusCode], str]:
        """How the server ended it: status and words, after all answers."""

        async def read() -> None:
            while await self.call.read() is not grpc.aio.EOF:
                pass

        with suppress(grpc.aio.AioRpcError):
            await asyncio.wait_for(read(), PATIENCE_SECONDS)
        await asyncio.wait_for(self.ending.wait(), PATIENCE_SECONDS)
        return self.ending.code, self.ending.details


@asynccontextmanager
async def channel_to(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address, OWN_CONNECTION) as channel:
        yield channel


@asynccontextmanager
async def calls_from(host: str, address: str) -> AsyncIterator[str]:
    """An address that passes connections on to `address`, coming from this host of the loopback."""
    target_host, _, target_port = address.rpartition(":")
    tasks: Set[asyncio.Future[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                data = await reader.read(1 << 16)
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(target_host, int(target_port), local_addr=(host, 0))
        for task in (pump(reader, there[1]), pump(there[0], writer)):
            tasks.add(asyncio.ensure_future(task))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
