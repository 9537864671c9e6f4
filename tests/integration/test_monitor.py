"""The orchestrator's watch over stages whose health service misbehaves."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2

from common.domain.errors import MAX_ECHOED_BYTES
from common.domain.placement import Stage, StageAddress
from common.server.health import REASON_KEY
from common.wire.channels import ServerChannel
from services.orchestrator.routing.monitor import StageMonitor

ADDRESS = StageAddress("attic", Stage.BACKBONE, "not dialled")
SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@asynccontextmanager
async def monitored(answer, reasons=(), *, stays=False):
    """The states noted of a stage whose health is what `answer(context)` gives, in bytes."""

    async def watch(request, context):
        await context.write(await answer(context))
        await asyncio.sleep(60 if stays else 0.05)

    async def check(request, context):
        if reasons:
            context.set_trailing_metadata(((REASON_KEY, reasons[-1]),))
        return await answer(context)

    server = grpc.aio.server()
    methods = {
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
        "Check": grpc.unary_unary_rpc_method_handler(check),
    }
    handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = ServerChannel(f"127.0.0.1:{port}")
    noted = asyncio.Queue()
    monitor = StageMonitor(
        {ADDRESS: channel},
        interval_seconds=0.05,
        timeout_seconds=10.0,
        on_change=noted.put_nowait,
        on_heartbeat=lambda *_: None,
        answered_at=lambda _: 0.0,
    )
    watching = asyncio.ensure_future(monitor.run())
    try:
        yield noted
        assert not watching.done()
    finally:
        await monitor.close()
        await asyncio.gather(watching, return_exceptions=True)
        await channel.close()
        await server.stop(None)


async def refuse_at_length(context):
    await context.abort(grpc.StatusCode.INTERNAL, "x" * 5000)


async def garbage(context):
    return b"\xff\xff\xff\xff"


@pytest.mark.parametrize(("wrong", "words"), [(garbage, "no health"), (refuse_at_length, "xxx")])
async def test_a_stage_whose_health_is_wrong_is_unhealthy_until_it_is_right(wrong, words):
    is_wrong = True

    async def answer(context):
        return await wrong(context) if is_wrong else SERVING.SerializeToString()

    async with monitored(answer) as noted:
        state = await asyncio.wait_for(noted.get(), 60)
        assert not state.healthy
        assert words in state.reason
        assert len(state.reason) <= MAX_ECHOED_BYTES + 3
        is_wrong = False
        while not state.healthy:
            state = await asyncio.wait_for(noted.get(), 60)


async def test_a_reason_that_comes_after_the_state_is_told():
    # A stage is NOT_SERVING from its start, and only once it has loaded does it know why.
    reasons = []
    not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
    answered = health_pb2.HealthCheckResponse(status=not_serving).SerializeToString()

    async def answer(context):
        return answered

    async with monitored(answer, reasons, stays=True) as noted:
        state = await asyncio.wait_for(noted.get(), 60)
        assert state.reason == "its health is NOT_SERVING"
        reasons.append("engine test has no operator Twist")
        while state.reason != reasons[0]:
            state = await asyncio.wait_for(noted.get(), 60)
            assert not state.healthy
