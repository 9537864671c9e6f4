"""A bare `grpc.aio` server, to compare with: it reads messages, drops them, and answers health.

`python -m benchmarks.hostile.bare` prints where it listens.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

MODULE = "benchmarks.hostile.bare"
BARE = "bare gRPC"
_OPTIONS = [("grpc.max_receive_message_length", -1)]


class _Everything(grpc.GenericRpcHandler):
    """Every other method: a stream whose messages are dropped."""

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method.startswith("/grpc.health"):
            return None
        return grpc.stream_stream_rpc_method_handler(self._drop)

    async def _drop(self, requests: Any, context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            pass


async def _serve() -> None:
    server = grpc.aio.server(options=_OPTIONS)
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_generic_rpc_handlers((_Everything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told = {"address": f"127.0.0.1:{port}", "metrics": "", "pid": os.getpid()}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())
