"""What the HTTP doors have in common: statuses of errors, and work for a caller that may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from common.domain.errors import (
    CallerError,
    InvalidInputError,
    ResourceExhaustedError,
    ServiceError,
    TandemError,
    UnavailableError,
)

T = TypeVar("T")

# In the order of looking. What the caller of the gateway did wrong is InvalidInputError alone: it
# is the gateway that chooses placements and proves an identity.
_STATUS_OF_ERROR: tuple[tuple[type[TandemError], int], ...] = (
    (InvalidInputError, 400),
    (CallerError, 502),
    (UnavailableError, 503),
    (ResourceExhaustedError, 503),
    (ServiceError, 500),
)


def http_status(error: TandemError) -> int:
    """The HTTP status of an error that a picture met behind the gateway."""
    return next((status for kind, status in _STATUS_OF_ERROR if isinstance(error, kind)), 500)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do work for a caller whose body has been read, and stop when the caller leaves.

    Raises:
        ClientDisconnect: it has left.
        Exception: what the work raised.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_has_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _has_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
