"""What every HTTP request passes before a door sees it: names, doors, tokens, limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Container, Sequence
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.domain.address import is_ip
from common.domain.errors import AccessDeniedError, ResourceExhaustedError, UnavailableError
from services.gateway.callers import Callers, UnknownCallerError
from services.gateway.door import Door

log = structlog.get_logger()

HEALTH_PATH = "/healthz"

_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}

_DISCARDING_SECONDS = 10.0
_MOST_DISCARDED_BYTES = 64 << 20


class TooLargeError(Exception):
    """A body is larger than its door takes."""


class CompressedError(Exception):
    """A body is compressed: a few bytes might unpack to very many, and pictures gain nothing."""


# In the order of looking.
_STATUS_OF_REFUSAL: dict[type[Exception], int] = {
    UnavailableError: 503,
    UnknownCallerError: 401,
    AccessDeniedError: 403,
    ResourceExhaustedError: 429,
    TooLargeError: 413,
    CompressedError: 415,
}
_REFUSALS = tuple(_STATUS_OF_REFUSAL)
_HEADERS_OF_REFUSAL = {
    401: {"www-authenticate": "Bearer"},
    413: {"connection": "close"},
    415: {"accept-encoding": "identity"},
    429: {"retry-after": "1"},
}


class Gatekeeper:
    """An ASGI application around that of the doors, which holds every request to the rules.

    - A browser is not to be led here by another site: the `Host` has to be one of our names, and
      the `Origin` of a browser's WebSocket, or of a request that changes something, one of ours.
    - A path belongs to the door with the longest beginning of it; others do not exist.
    - Unless the path is public, the caller has to have a token of the door's roles.
    - The door's limits hold: sessions, requests a second, bytes of a body, which is not compressed.

    The caller's identity is in `scope["state"]["caller"]`; None where nobody has to sign in.
    """

    def __init__(
        self,
        application: ASGIApp,
        doors: Sequence[Door],
        callers: Callers,
        names: frozenset[str],
        draining: asyncio.Event,
    ) -> None:
        """Stand before an application.

        Args:
            application: that serves the doors' routes.
            doors: those that are open.
            callers: knows who calls.
            names: that the gateway is reached by, in lower case and without a port.
            draining: set once no more requests are taken; those under way are answered.
        """
        self._application = application
        self._draining = draining
        self._doors = doors
        self._callers = callers
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket; see ASGI."""
        if scope["type"] not in ("http", "websocket"):
            return
        headers = Headers(scope=scope)
        sending = _with_headers(send)
        if scope["path"] == HEALTH_PATH:
            await _answer(PlainTextResponse("ok\n"), scope, receive, sending)
            return
        if not self._is_for_us(scope, headers):
            response = PlainTextResponse("this is not a name of the gateway\n", 421)
            await _answer(response, scope, receive, sending)
            return
        door = door_of(self._doors, scope["path"])
        if door is None:
            await _answer(PlainTextResponse("not found\n", 404), scope, receive, sending)
            return
        await self._pass(door, headers, scope, receive, sending)

    async def _pass(
        self, door: Door, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        host = scope["client"][0] if scope.get("client") else ""
        body = _Body(receive, door.guard.limits.body_bytes)
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            # The application would answer an error of its own.
            if body.is_too_large and not started:
                raise TooLargeError
            started = True
            await send(message)

        try:
            if self._draining.is_set():
                raise UnavailableError("the gateway is ending")
            caller = None
            if not _is_in(scope["path"], door.public_paths):
                caller = self._callers.of_header(headers.get("authorization", ""), door.roles)
            scope.setdefault("state", {})["caller"] = caller
            with door.guard.admitted(host):
                body.check(headers)
                await self._application(_as_get(scope), body.receive, noting)
            return
        except _REFUSALS as error:
            response = _refusal(door, error)
        except Exception:
            # `application_of` has told the log, and the caller unless an answer had begun.
            if not started:
                raise
            return
        log.warning("request refused", door=door.name, status=response.status_code, host=host)
        if scope["type"] == "http":
            await body.discard(headers)
        if not started:
            await _answer(response, scope, receive, send)

    def _is_for_us(self, scope: Scope, headers: Headers) -> bool:
        name = _host_of(headers.get("host", ""))
        # Another site's name can be made to lead here, an address cannot.
        if name not in self._names and not (is_ip(name, 4) or is_ip(name, 6)):
            return False
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if origin is None or not changes:
            return True
        # Programs send none; a page's own is the host that it came from, its port included.
        return _place_of(origin) == headers.get("host", "").lower()


def door_of(doors: Sequence[Door], path: str) -> Door | None:
    """The door with the longest beginning of a path; None if it is no door's."""
    own = [(path_of_door, door) for door in doors for path_of_door in door.paths]
    found = [(len(each), door) for each, door in own if _belongs(path, each)]
    return max(found, key=lambda each: each[0])[1] if found else None


def _belongs(path: str, own: str) -> bool:
    """Whether a path is a door's: `/` is that page alone, `/live/` all below it."""
    return _is_in(path, (own,)) or (own != "/" and own.endswith("/") and path.startswith(own))


def _is_in(path: str, paths: Container[str]) -> bool:
    """Whether a path is one of these, or would be without a slash at its end."""
    return path in paths or path.removesuffix("/") in paths


def _as_get(scope: Scope) -> Scope:
    """The request, where it is a HEAD, as the GET whose headers it asks for; RFC 9110, 9.3.2."""
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope


def _refusal(door: Door, error: Exception) -> Response:
    """What a caller is answered whose request breaks a rule, in the door's words."""
    status = next(status for kind, status in _STATUS_OF_REFUSAL.items() if isinstance(error, kind))
    sentence = str(error)
    if isinstance(error, TooLargeError):
        sentence = f"the request has more than {door.guard.limits.body_bytes} bytes"
    response = door.refusal(status, sentence)
    response.headers.update(_HEADERS_OF_REFUSAL.get(status, {}))
    return response


def _host_of(header: str) -> str:
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _place_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


class _Body:
    """The body of a request while it comes.

    Attributes:
        is_too_large: it has turned out to be larger than its door takes.
    """

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self.is_too_large = False
        self._begun = self._ended = False
        self._receive = receive
        self._most_bytes = most_bytes
        self._bytes = 0

    def check(self, headers: Headers) -> None:
        """Check what is told of it before it comes.

        Raises:
            TooLargeError: it will be too large.
            CompressedError: it is compressed.
        """
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise CompressedError("the request is compressed, which is not supported")
        told = headers.get("content-length", "")
        if told.isdecimal() and int(told) > self._most_bytes:
            raise TooLargeError

    async def receive(self) -> Message:
        """The next part of it; see ASGI.

        Raises:
            TooLargeError: it is too large.
        """
        self._begun = True
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            self.is_too_large = self._bytes > self._most_bytes
        if self.is_too_large:
            raise TooLargeError
        return message

    async def discard(self, headers: Headers) -> None:
        """Read what is left and forget it: most clients read no answer before they have sent all.

        One that sends without end, or hardly anything, is not waited for; and one that waits for
        our word before it sends anything, as `curl` does, is told at once that there is no need.
        """
        waits_for_us = not self._begun and headers.get("expect", "").lower() == "100-continue"
        if self._ended or waits_for_us:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARDING_SECONDS):
                while self._bytes < self._most_bytes + _MOST_DISCARDED_BYTES:
                    message = await self._receive()
                    self._bytes += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return


def _with_headers(send: Send) -> Send:
    """Add what every answer says, unless the door says it differently."""

    async def sending(message: Message) -> None:
        if message["type"].endswith("http.response.start"):
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a response, also to a WebSocket before it is accepted."""
    can_answer = "websocket.http.response" in scope.get("extensions", {})
    if scope["type"] == "http" or can_answer:
        await response(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008})
