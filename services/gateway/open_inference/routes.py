"""The Open Inference Protocol over HTTP: the paths below `/v2`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import tandem
from common.domain.errors import TandemError
from common.wire.errors import public_message
from services.gateway.http_answers import http_status, while_connected
from services.gateway.open_inference.http_messages import (
    HEADER_LENGTH,
    config_to_http,
    index_to_http,
    metadata_to_http,
    request_from_http,
    response_to_http,
    wants_ready_only,
)
from services.gateway.open_inference.model import (
    EXTENSIONS,
    NO_LOADING,
    Models,
    UnknownModelError,
    UnsupportedError,
)
from services.gateway.open_inference.servicer import SERVER_NAME
from services.gateway.readiness import Readiness

# What gRPC answers UNIMPLEMENTED by itself.
_NOT_HERE = (
    "/models/stats",
    "/models/{name}/stats",
    "/models/{name}/versions/{version}/stats",
    "/models/{name}/trace/setting",
    "/trace/setting",
    "/logging",
    "/{kind}sharedmemory/{rest:path}",
)


def inference_routes(models: Models, readiness: Readiness) -> APIRouter:
    """The routes of the protocol."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("")
    async def server_metadata() -> JSONResponse:
        """What serves here."""
        told = {"name": SERVER_NAME, "version": tandem.__version__}
        return JSONResponse({**told, "extensions": EXTENSIONS})

    @router.get("/health/live")
    async def server_live() -> Response:
        """Whether the gateway runs."""
        return JSONResponse({"live": True})

    @router.get("/health/ready")
    async def server_ready() -> Response:
        """Whether pictures can be served now; the status is 503 where they cannot."""
        ready = await readiness.is_ready()
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def not_here() -> Response:
        what = "statistics, shared memory, trace settings and log settings"
        return _refused(UnsupportedError(f"the protocol's {what} are not supported"))

    for path in _NOT_HERE:
        router.add_api_route(path, not_here, methods=["GET", "POST"], include_in_schema=False)

    async def described(
        name: str, version: str, description: Callable[[str], dict[str, Any]]
    ) -> Response:
        try:
            await models.named(name, version)
        except TandemError as error:
            return _refused(error)
        return JSONResponse(description(name))

    @router.get("/models/{name}/versions/{version}/config")
    @router.get("/models/{name}/config")
    async def model_config(name: str, version: str = "") -> Response:
        """The same as the metadata, in the words of Triton's configuration."""
        return await described(name, version, config_to_http)

    @router.get("/models/{name}/versions/{version}")
    @router.get("/models/{name}")
    async def model_metadata(name: str, version: str = "") -> Response:
        """Inputs and outputs of the model."""
        return await described(name, version, metadata_to_http)

    @router.get("/models/{name}/versions/{version}/ready")
    @router.get("/models/{name}/ready")
    async def model_ready(name: str, version: str = "") -> Response:
        """Whether the model exists, and pictures can be served now."""
        try:
            model = await models.named(name, version)
        except TandemError as error:
            return _refused(error)
        ready = await readiness.is_ready(model)
        return JSONResponse({"name": name, "ready": ready}, 200 if ready else 503)

    @router.post("/repository/index")
    async def repository_index(request: Request) -> Response:
        """All models, and whether each can serve now."""
        try:
            ready = wants_ready_only(await request.body())
        except TandemError as error:
            return _refused(error)
        return JSONResponse(index_to_http(await models.index(ready=ready)))

    @router.post("/repository/models/{name}/load")
    @router.post("/repository/models/{name}/unload")
    async def model_control(name: str) -> Response:
        """Always an error: models are loaded in other ways."""
        return _refused(UnsupportedError(NO_LOADING))

    @router.post("/models/{name}/versions/{version}/infer")
    @router.post("/models/{name}/infer")
    async def model_infer(name: str, request: Request, version: str = "") -> Response:
        """Detect on the pictures of one request."""
        body = await request.body()
        try:
            # Numbers written out one by one may take long to read.
            inference = await asyncio.to_thread(
                request_from_http, name, version, body, request.headers.get(HEADER_LENGTH)
            )
            outputs = await while_connected(request, models.infer(inference.request))
        except TandemError as error:
            return _refused(error)
        content, headers = response_to_http(inference, outputs)
        return Response(content, headers=headers)

    return router


def _refused(error: TandemError) -> Response:
    status = http_status(error)
    if isinstance(error, UnknownModelError):
        status = 404
    elif isinstance(error, UnsupportedError):
        status = 501
    return JSONResponse({"error": public_message(error)}, status)
