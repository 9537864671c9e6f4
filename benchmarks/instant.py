"""Servers that do next to nothing, to measure what the orchestrator itself costs.

`python -m benchmarks.instant stage` is both stages in one: it answers every frame at
once. `... instant relay HOST:PORT` passes the messages of a backbone's stream on, unread: the least
that a `grpc.aio` service in the middle can do. `... instant answer` answers every message of any
stream with a few bytes: the other side of a ping-pong. `... instant sink` reads messages of any
size, drops them, and answers health. Each prints where it listens.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from common.security.tls import TlsFiles, TlsPaths
from common.wire.connections import open_channel
from protos.tandem.v1 import detection_pb2, stage_pb2, stage_pb2_grpc

# The empty name stands for the server as a whole.
_SERVICES = ("", "tandem.v1.Backbone", "tandem.v1.Transformer")
_OPTIONS = [("grpc.max_receive_message_length", -1)]
ANSWER_BYTES = 2_400
PROCESS = "/tandem.v1.Backbone/Process"


class InstantBackbone(stage_pb2_grpc.BackboneServicer):
    """Answers every frame with no detections."""

    async def Process(self, request_iterator: Any, context: Any) -> None:  # noqa: N802
        """See stage.proto."""
        async for request in request_iterator:
            if request.WhichOneof("request") == "open":
                await context.write(stage_pb2.StageResponse(opened=stage_pb2.Opened()))
                continue
            # An orchestrator takes an answer without both timings for a fault.
            result = stage_pb2.FrameResult(
                frame_id=request.frame.frame_id,
                detections=detection_pb2.Detections(),
                timing=detection_pb2.Timing(
                    backbone=detection_pb2.StageTiming(),
                    transformer=detection_pb2.StageTiming(),
                ),
            )
            await context.write(stage_pb2.StageResponse(result=result))


class Relay(grpc.GenericRpcHandler):
    """Passes a backbone's streams on, message by message, without reading them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Pass them on over `channel`."""
        self._process: Any = channel.stream_stream(PROCESS)

    def service(self, handler_call_details: Any) -> Any:
        """One handler for all."""
        return grpc.stream_stream_rpc_method_handler(self._relay)

    async def _relay(self, requests: AsyncIterator[bytes], context: Any) -> None:
        call = self._process()

        async def forward() -> None:
            async for request in requests:
                await call.write(request)
            await call.done_writing()

        forwarding = asyncio.create_task(forward())
        async for response in call:
            await context.write(response)
        await forwarding


class Answers(grpc.GenericRpcHandler):
    """Answers every message of a stream at once, with as many bytes as some detections have."""

    def service(self, handler_call_details: Any) -> Any:
        """One handler for all."""
        return grpc.stream_stream_rpc_method_handler(self._answer)

    async def _answer(self, requests: AsyncIterator[bytes], context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            await context.write(bytes(ANSWER_BYTES))


class Sink(grpc.GenericRpcHandler):
    """Every method but health's: a stream whose messages are dropped."""

    def service(self, handler_call_details: Any) -> Any:
        """One handler for all."""
        if handler_call_details.method.startswith("/grpc.health"):
            return None
        return grpc.stream_stream_rpc_method_handler(self._drop)

    async def _drop(self, requests: AsyncIterator[bytes], context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            pass


async def serve(kind: str, target: str = "", certificates: str = "") -> None:
    """Serve until killed.

    Args:
        kind: `stage`, `relay`, `answer` or `sink`.
        target: where a relay passes streams on to.
        certificates: folder of a transformer's certificate, by which to serve with TLS; empty:
            without.
    """
    server = grpc.aio.server(options=_OPTIONS if kind == "sink" else None)
    if kind != "relay":
        servicer = health.aio.HealthServicer()
        for name in _SERVICES:
            await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if kind == "stage":
        stage_pb2_grpc.add_BackboneServicer_to_server(InstantBackbone(), server)
    elif kind == "sink":
        server.add_generic_rpc_handlers((Sink(),))
    elif kind == "answer":
        server.add_generic_rpc_handlers((Answers(),))
    else:
        server.add_generic_rpc_handlers((Relay(open_channel(target)),))
    if certificates:
        folder = Path(certificates)
        paths = TlsPaths(
            folder / "peers-ca.crt", folder / "transformer.crt", folder / "transformer.key"
        )
        port = server.add_secure_port("127.0.0.1:0", TlsFiles(paths).server_credentials())
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await announced(server, port)


async def announced(server: grpc.aio.Server, port: int) -> None:
    """Start a server that listens on this port, print where, and wait until it is killed."""
    await server.start()
    announcement = f'{{"address": "127.0.0.1:{port}", "metrics": "", "pid": 0}}\n'
    sys.stdout.write(announcement)
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
