"""One link of a chain that goes a frame's way, with nothing of Tandem's.

`python -m benchmarks.bare_chain MILLISECONDS [HOST:PORT BYTES]` reads messages, has a thread sleep
for so long as an engine would run, sends so many bytes on and waits for their answer, or makes that
itself if it is the last link. Such a chain is the least that services of `grpc.aio` can make of a
frame's way. It prints where it listens.
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.instant import ANSWER_BYTES, PROCESS, announced
from common.wire.connections import open_channel


class Link(grpc.GenericRpcHandler):
    """Passes every message on after a while, and its answer back."""

    def __init__(self, seconds: float, target: str, message_bytes: int) -> None:
        """Sleep for `seconds`; pass messages of so many bytes on to `target`, if there is one."""
        self._seconds = seconds
        self._message = bytes(message_bytes)
        # As each stage has one thread for its engine.
        self._thread = ThreadPoolExecutor(1)
        self._process: Any = open_channel(target).stream_stream(PROCESS) if target else None

    def service(self, handler_call_details: Any) -> Any:
        """One handler for all."""
        return grpc.stream_stream_rpc_method_handler(self._serve)

    async def _serve(self, requests: object, context: Any) -> None:
        loop = asyncio.get_running_loop()
        call = None if self._process is None else self._process()
        while await context.read() is not grpc.aio.EOF:
            if self._seconds:
                await loop.run_in_executor(self._thread, time.sleep, self._seconds)
            answer = bytes(ANSWER_BYTES)
            if call is not None:
                await call.write(self._message)
                answer = await call.read()
            await context.write(answer)


async def serve(milliseconds: str, target: str = "", message_bytes: str = "0") -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Link(float(milliseconds) / 1000, target, int(message_bytes)),))
    await announced(server, server.add_insecure_port("127.0.0.1:0"))


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
