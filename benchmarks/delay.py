"""A TCP proxy that adds a delay each way, where the kernel has no netem.

`python -m benchmarks.delay MILLISECONDS PORT=HOST:PORT...` listens on loopback.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import partial

_CHUNK_BYTES = 1 << 16
# More than the link holds in that time, so that the delay does not limit the rate.
_CHUNKS_UNDER_WAY = 256


async def serve(delay_seconds: float, links: dict[int, tuple[str, int]]) -> None:
    """Listen on each port and connect it to its target, until cancelled."""
    for port, (host, target) in links.items():
        await asyncio.start_server(
            partial(_connect, delay_seconds, host, target), "127.0.0.1", port
        )
    announcement = {"address": "", "metrics": "", "pid": os.getpid()}
    sys.stdout.write(json.dumps(announcement) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def _connect(
    delay_seconds: float,
    host: str,
    port: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(host, port)
    except OSError:
        # The target is not up yet; whoever asked sees its connection end, as without the proxy.
        writer.close()
        return
    await asyncio.gather(
        _carry(reader, far_writer, delay_seconds), _carry(far_reader, writer, delay_seconds)
    )


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float
) -> None:
    """Pass on each chunk `delay_seconds` after it came; many are under way at a time."""
    chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY)
    sending = asyncio.create_task(_send_when_due(chunks, writer))
    clock = asyncio.get_running_loop().time
    try:
        while data := await reader.read(_CHUNK_BYTES):
            await chunks.put((clock() + delay_seconds, data))
    except ConnectionError:
        # A peer that broke off is passed on as an end.
        pass
    await chunks.put((clock() + delay_seconds, b""))
    await sending


async def _send_when_due(
    chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
) -> None:
    clock = asyncio.get_running_loop().time
    try:
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(due - clock())
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        # The other direction ends by itself.
        pass
    finally:
        writer.close()


def main() -> None:
    """Run until killed."""
    milliseconds, *links = sys.argv[1:]
    targets = {}
    for link in links:
        port, _, target = link.partition("=")
        host, _, far_port = target.rpartition(":")
        targets[int(port)] = (host, int(far_port))
    asyncio.run(serve(float(milliseconds) / 1000, targets))


if __name__ == "__main__":
    main()
