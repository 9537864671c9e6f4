"""What stands around every streaming handler: admission, and errors to statuses."""

from __future__ import annotations

from typing import Any, Awaitable, Callable

import grpc
import structlog

from common.domain.errors import ResourceExhaustedError, TandemError
from common.wire.status import INTERNAL_FAILURE_MESSAGE, grpc_status, public_message

log = structlog.get_logger()


class StreamGuard:
    """Admits streams up to a limit, and ends each failed one with the status of its error."""

    def __init__(self, limit: int) -> None:
        """Admit up to `limit` streams at a time."""
        self._limit = limit
        self._open = 0

    async def run(
        self, context: grpc.aio.ServicerContext[Any, Any], body: Callable[[], Awaitable[None]]
    ) -> None:
        """Run one stream's handler, `body`."""
        self._open += 1
        try:
            if self._open > self._limit:
                raise ResourceExhaustedError(f"{self._limit} streams are open, which is the limit")
            await body()
        except TandemError as error:
            log.warning("stream ended", error=str(error), status=grpc_status(error).name)
            await context.abort(grpc_status(error), public_message(error))
        except Exception:
            log.exception("stream failed")
            await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_FAILURE_MESSAGE)
        finally:
            self._open -= 1
