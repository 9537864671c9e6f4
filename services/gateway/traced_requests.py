"""Traces of callers' requests: what is detected for a request is part of its span."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.telemetry.tracing import MetadataItem, Span, Traces

_TRACEPARENT: ContextVar[str] = ContextVar("traceparent", default="")


def current_traceparent() -> str:
    """Of the request that the present task serves; empty where that is not traced."""
    return _TRACEPARENT.get()


@contextmanager
def traced_request(
    traces: Traces, name: str, metadata: Iterable[MetadataItem], **attributes: str
) -> Iterator[Span]:
    """Trace what is done within as one request.

    Args:
        traces: of the gateway.
        name: of the span.
        metadata: that the request came with: `traceparent` is what the request is part of,
            and `tracestate` what tracing systems note of it.
        attributes: of the span.
    """
    items = list(metadata)
    stream = traces.stream(items)
    # Where traces are on, the metadata counts, which has the `tracestate` as well.
    told = "" if stream.are_on else str(dict(items).get("traceparent", ""))
    with stream.frame(name, told, **attributes) as span:
        span.bind_to_logs()
        token = _TRACEPARENT.set(span.traceparent)
        try:
            yield span
        finally:
            _TRACEPARENT.reset(token)


class TracedRequests:
    """An ASGI application around another, which traces the requests that bring something."""

    def __init__(self, application: ASGIApp, traces: Traces) -> None:
        """Trace by `traces` what `application` serves."""
        self._application = application
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket; see ASGI."""
        # A WebSocket stays for hours, and what is asked for by GET needs no detection.
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._application(scope, receive, send)
            return
        headers = Headers(scope=scope).items()
        with traced_request(self._traces, "request", headers, path=scope["path"][:200]) as span:

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.tell(http_status=message["status"])
                    if message["status"] >= 400:
                        span.fail(str(message["status"]), "")
                await send(message)

            await self._application(scope, receive, noting)
