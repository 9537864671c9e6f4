"""The health service: watches end when the server drains, and checks tell the reason."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2

REASON_KEY = "tandem-reason"
"""Trailing metadata of `Check`: why the server is not serving; printable ASCII, at most 200."""

_REASON_CHARACTERS = 200


class DrainingHealth(health.aio.HealthServicer):
    """`grpc.health.v1.Health`; a watch would otherwise hold a stopping server for all its grace.

    Attributes:
        reason: why the server is not serving, for whoever checks; empty if there is none to tell.
    """

    def __init__(self, draining: asyncio.Event) -> None:
        """End every watch, with NOT_SERVING as its last word, once `draining` is set."""
        super().__init__()
        self._draining = draining
        self.reason = ""

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """See the health protocol of gRPC; the reason goes along as metadata."""
        if self.reason:
            # Metadata is ASCII.
            text = self.reason.encode("ascii", "replace").decode()[:_REASON_CHARACTERS]
            context.set_trailing_metadata(((REASON_KEY, text),))
        return await super().Check(request, context)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> None:
        """See the health protocol of gRPC."""
        writer: Any = _Writer(context)
        watching = asyncio.ensure_future(super().Watch(request, writer))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait([watching, draining], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watching, draining):
                task.cancel()
            await asyncio.gather(watching, draining, return_exceptions=True)
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        await writer.write(health_pb2.HealthCheckResponse(status=not_serving))


class _Writer:
    """Writes one message after the other, also when whoever wrote the last one was cancelled.

    gRPC goes on with a write whose coroutine is cancelled, and a second one beside it would leave
    the call without a status: the server would then wait for it until its grace is over.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._turn = asyncio.Lock()

    async def write(self, message: health_pb2.HealthCheckResponse) -> None:
        """Write, when the write before is done."""
        await asyncio.shield(asyncio.ensure_future(self._write(message)))

    async def _write(self, message: health_pb2.HealthCheckResponse) -> None:
        async with self._turn:
            await self._context.write(message)
