"""Watches of health end at once when a server drains."""

import asyncio
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.server.health import REASON_CHARACTERS, REASON_KEY, DrainingHealth

ROUNDS = 30
WATCHES = 8
GRACE_SECONDS = 60.0
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def serve(draining):
    servicer = DrainingHealth(draining)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return servicer, server, grpc.aio.insecure_channel(f"127.0.0.1:{port}")


async def test_no_watch_holds_a_draining_server():
    for _ in range(ROUNDS):
        draining = asyncio.Event()
        servicer, server, channel = await serve(draining)
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(WATCHES)]
        for watch in watches:
            assert (await watch.read()).status != NOT_SERVING
        # The news of both causes a write, at the same moment.
        draining.set()
        await servicer.enter_graceful_shutdown()
        began = time.monotonic()
        await server.stop(GRACE_SECONDS)
        assert time.monotonic() - began < GRACE_SECONDS / 2
        for watch in watches:
            assert (await watch.read()).status == NOT_SERVING
        await channel.close()


async def test_a_check_tells_the_reason():
    servicer, server, channel = await serve(asyncio.Event())
    servicer.reason = "the engine of Zürich failed " + "x" * 1000
    call = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    await call
    told = dict(await call.trailing_metadata())[REASON_KEY]
    assert told.startswith("the engine of Z?rich failed")
    assert len(told) == REASON_CHARACTERS
    await channel.close()
    await server.stop(None)
