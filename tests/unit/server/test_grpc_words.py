"""What gRPC's core writes to stderr would stand amid what Tandem tells."""

import subprocess
import sys

from tests.harness import ROOT, clean_environment

PROGRAM = """
import asyncio
import common
import grpc

async def main():
    for _ in range(60):
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.stream_stream("/no.Service/Method")(timeout=60).code()
            await server.stop(0)

asyncio.run(main())
"""


def test_a_server_that_ends_is_told_by_nobody_but_us():
    environment = clean_environment()
    # As in a new shell: it is the package that chooses.
    environment.pop("GRPC_VERBOSITY", None)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=str(ROOT),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
