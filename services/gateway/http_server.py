"""The HTTP server: uvicorn, which listens as the gateway's settings say, and drains."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.domain.address import Address, binding_fault
from common.domain.errors import ConfigurationError, InternalError
from common.security.tls import TlsFiles
from common.server.metrics_access import server_context

# Connections, most of which belong to the sessions of doors.
_MOST_CONNECTIONS = 1024
_KEEP_ALIVE_SECONDS = 15
_MOST_WEBSOCKET_BYTES = 1 << 16
_BACKLOG = 128


class _Server(uvicorn.Server):
    """Uvicorn, which leaves signals to the gateway."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class BoundedProtocol(H11Protocol):
    """HTTP/1.1, where nobody holds a connection, or a session of a door, by being slow.

    Attributes:
        patience_seconds: how long the head of a request may take to come, the silence before a
            connection's first one included.
        body_seconds: likewise its body.
        answer_seconds: how long a client that does not read holds an answer up.
    """

    patience_seconds = 15.0
    body_seconds = 60.0
    answer_seconds = 60.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._awaited: type[h11.IDLE] | type[h11.SEND_BODY] | None = None
        self._arriving: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        _cancel(self._arriving)
        _cancel(self._leaving)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next request may have begun to come already."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        # Closing would wait for what is not read.
        loop = asyncio.get_running_loop()
        self._leaving = loop.call_later(self.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        _cancel(self._leaving)
        super().resume_writing()

    def _watch(self) -> None:
        """Allow each part of a request its time, from its beginning."""
        awaited = self._part_awaited()
        if awaited is self._awaited:
            return
        _cancel(self._arriving)
        self._awaited = awaited
        if awaited is not None:
            seconds = self.patience_seconds if awaited is h11.IDLE else self.body_seconds
            loop = asyncio.get_running_loop()
            self._arriving = loop.call_later(seconds, self.transport.close)

    def _part_awaited(self) -> type[h11.IDLE] | type[h11.SEND_BODY] | None:
        state = self.conn.their_state
        # A WebSocket may have taken the transport over.
        if self.transport.get_protocol() is not self or self.transport.is_closing():
            return None
        if state is h11.SEND_BODY:
            return h11.SEND_BODY
        # Silence between two requests is the matter of keep-alive.
        begins = self.cycle is None or bool(self.conn.trailing_data[0])
        return h11.IDLE if state is h11.IDLE and begins else None


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class HttpServer:
    """Serves an ASGI application over HTTP, or over HTTPS with the service's certificate."""

    def __init__(
        self,
        application: ASGIApp,
        host: str,
        port: int,
        tls: TlsFiles | None,
        *,
        grace_seconds: float,
        protocol: type[H11Protocol] = BoundedProtocol,
    ) -> None:
        """Bind; nothing is served yet.

        Args:
            application: what is served.
            host: to listen on.
            port: likewise; 0 picks a free one.
            tls: the certificate; its files are read again when they change. None: plain HTTP.
            grace_seconds: how long requests under way may take at the end.
            protocol: of each connection.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        self._socket = _bound(host, port)
        self.address = Address(host, self._socket.getsockname()[1])
        config = uvicorn.Config(
            application,
            http=protocol,
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(grace_seconds)),
            ws_max_size=_MOST_WEBSOCKET_BYTES,
            ws_per_message_deflate=False,
        )
        config.load()
        config.ssl = None if tls is None else _context(tls)
        self.url = f"http{'' if tls is None else 's'}://{self.address}"
        self._server = _Server(config)

    async def serve(self, draining: asyncio.Event) -> None:
        """Serve until the gateway drains; then take no more requests, and answer those under way.

        Raises:
            InternalError: the server has ended by itself.
        """
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        ending = asyncio.create_task(draining.wait())
        try:
            await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
            self._server.should_exit = True
            await serving
        finally:
            serving.cancel()
            ending.cancel()
        if not draining.is_set():
            raise InternalError("the HTTP server has ended")

    def close(self) -> None:
        """Leave the address to others."""
        self._socket.close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listening = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        # Connections inherit it: asyncio does not see that they are TCP. An answer is written in
        # two parts, and the second would wait until the first is acknowledged, which takes 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise ConfigurationError(f"HTTP: {binding_fault(host, port, error)}") from error


def _context(tls: TlsFiles) -> ssl.SSLContext:
    """What connections are encrypted by: each by the files as they are when it begins."""
    material = tls.material
    latest = context = server_context(material, ssl.CERT_NONE)

    def use_latest(connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        nonlocal material, latest
        if tls.material is not material:
            material = tls.material
            latest = server_context(material, ssl.CERT_NONE)
        connection.context = latest

    context.sni_callback = use_latest
    return context
