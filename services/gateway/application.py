"""The HTTP application of all doors; each answers what went wrong in its own words."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from common.wire.errors import INTERNAL_FAILURE_MESSAGE
from services.gateway.door import Door
from services.gateway.gatekeeper import TooLargeError, door_of

log = structlog.get_logger()

# Nobody reads it: the caller has left.
_CALLER_LEFT = 499


def application_of(doors: Sequence[Door]) -> FastAPI:
    """The application that serves the routes of these doors."""
    # FastAPI's own pages load scripts from elsewhere.
    application = FastAPI(title="Tandem", docs_url=None, redoc_url=None, openapi_url=None)
    for door in doors:
        door.add_routes(application)

    def refusal(request: Request, status: int, sentence: str) -> Response:
        door = door_of(doors, request.url.path)
        if door is None:
            return PlainTextResponse(f"{sentence}\n", status)
        return door.refusal(status, sentence)

    async def refused(request: Request, error: Exception) -> Response:
        """A path or a method that the door does not have."""
        if not isinstance(error, HTTPException):
            raise error
        response = refusal(request, error.status_code, str(error.detail).lower())
        response.headers.update(error.headers or {})
        return response

    async def left(_: Request, __: Exception) -> Response:
        return Response(status_code=_CALLER_LEFT)

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, TooLargeError):
            # The gatekeeper answers in place of this.
            return Response(status_code=413)
        log.error("request failed", path=request.url.path[:200], exc_info=error)
        return refusal(request, 500, INTERNAL_FAILURE_MESSAGE)

    application.add_exception_handler(HTTPException, refused)
    application.add_exception_handler(ClientDisconnect, left)
    application.add_exception_handler(Exception, failed)
    return application
