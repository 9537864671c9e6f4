"""The page of the HTTP API at `/docs`: Swagger UI, all of it served from here."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse, JSONResponse, Response

import tandem

# Swagger UI sets styles of its own and draws its icons from data addresses.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)
_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true});\n'
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Tandem: HTTP API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""

PATHS = frozenset(
    ("/openapi.json", "/docs", "/docs/start.js", *(f"/docs/{name}" for name in _ASSETS))
)


def add_page(application: FastAPI) -> None:
    """Serve the page, and the description of every route that has a tag."""

    @application.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return JSONResponse(_described(application))

    @application.get("/docs", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})

    @application.get("/docs/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        if name == "start.js":
            return Response(_START, media_type="text/javascript")
        kind = _ASSETS.get(name)
        if kind is None:
            return Response(status_code=404)
        return Response(_content(name), media_type=kind, headers={"cache-control": "max-age=86400"})


@cache
def _content(name: str) -> bytes:
    return (resources.files("fastapi_offline") / "static" / name).read_bytes()


def _described(application: FastAPI) -> dict[str, Any]:
    described = get_openapi(
        title="Tandem",
        version=tandem.__version__,
        description="Object detection on pictures.",
        routes=application.routes,
    )
    # What belongs to the gateway's own pages has no tag.
    described["paths"] = {
        path: methods
        for path, methods in described["paths"].items()
        if all(method.get("tags") for method in methods.values())
    }
    return described
