"""The health service: watches end when the server drains, and checks tell more than the state."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, List, Optional, Tuple

from grpc_health.v1 import health, health_pb2

from common.domain.redaction import fit_to_show

REASON_KEY = "tandem-reason"
"""Trailing metadata of `Check`: why the server is not serving, in ASCII characters."""

REASON_CHARACTERS = 400
"""Most characters of a reason; older orchestrators read 200 of them."""
IN_FLIGHT_KEY = "tandem-in-flight"
"""Trailing metadata of `Check`: how many frames a stage holds, of all callers."""


class DrainingHealth(health.aio.HealthServicer):
    """`grpc.health.v1.Health` that ends its watches when the server drains.

    An open watch would otherwise keep a stopping server waiting for its whole grace.

    Attributes:
        reason: why the server is not serving; empty if there is nothing to tell.
        in_flight: tells how many frames the server holds; None if it does not tell.
    """

    def __init__(self, draining: asyncio.Event) -> None:
        """Send NOT_SERVING to every watch and end it, once `draining` is set."""
        super().__init__()
        self._draining = draining
        self.reason = ""
        self.in_flight: Optional[Callable[[], int]] = None

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """See the health protocol of gRPC; what else is to be told goes along as metadata."""
        told: List[Tuple[str, str]] = []
        if self.reason:
            # Metadata is ASCII, on one line.
            text = fit_to_show(self.reason).encode("ascii", "replace").decode()[:REASON_CHARACTERS]
            told.append((REASON_KEY, text))
        if self.in_flight is not None:
            told.append((IN_FLIGHT_KEY, str(self.in_flight())))
        if told:
            context.set_trailing_metadata(tuple(told))
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
    """Writes messages one after the other, even if the caller of a write is cancelled.

    gRPC continues a write whose coroutine is cancelled. A second write beside it would leave the
    call without a status, and the server would wait for that call until its grace is over.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._turn = asyncio.Lock()

    async def write(self, message: health_pb2.HealthCheckResponse) -> None:
        """Write as soon as the previous write is done."""
        await asyncio.shield(asyncio.ensure_future(self._write(message)))

    async def _write(self, message: health_pb2.HealthCheckResponse) -> None:
        async with self._turn:
            await self._context.write(message)
