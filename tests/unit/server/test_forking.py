"""Processes are started beside busy channels; gRPC's fork handlers have hung or failed there."""

import os
import subprocess
import sys

import pytest

from tests.harness import ROOT, clean_environment

# `preexec_fn` makes Python fork where it would use vfork, which calls no handlers.
PROGRAM = """
import {package}
import asyncio, subprocess
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

async def ask(channel, done):
    stub = health_pb2_grpc.HealthStub(channel)
    asked = 0
    while not done.is_set():
        await stub.Check(health_pb2.HealthCheckRequest())
        asked += 1
    return asked

async def main():
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = f"127.0.0.1:{{server.add_insecure_port('127.0.0.1:0')}}"
    await server.start()
    own = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
    channels = [grpc.aio.insecure_channel(address, own) for _ in range(4)]
    done = asyncio.Event()
    asking = [asyncio.ensure_future(ask(each, done)) for each in channels for _ in range(4)]
    start = lambda: subprocess.run(["true"], preexec_fn=int, check=True)
    for _ in range(100):
        await asyncio.get_event_loop().run_in_executor(None, start)
    done.set()
    print(min(await asyncio.gather(*asking)))
    for channel in channels:
        await channel.close()
    await server.stop(None)

asyncio.run(main())
"""


@pytest.mark.parametrize("package", ["common", "services"])
def test_a_hundred_processes_start_beside_busy_channels(package):
    environment = clean_environment()
    # As in a new shell: it is the package that chooses.
    for name in ("GRPC_ENABLE_FORK_SUPPORT", "GRPC_DNS_RESOLVER"):
        environment.pop(name, None)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(package=package)],
        cwd=str(ROOT),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 0


def test_these_tests_run_without_the_handlers():
    assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"
