"""The HTTP server: uvicorn, which listens as the gateway's settings say, and drains."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

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
    """HTTP/1.1, where a connection that sends no request does not stay open.

    Attributes:
        patience_seconds: how long a connection's first request may take to come.
    """

    patience_seconds = 15.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._impatience = asyncio.get_running_loop().call_later(
            self.patience_seconds, self._end_silence
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._impatience.cancel()
        super().connection_lost(exc)

    def _end_silence(self) -> None:
        # A WebSocket may have taken the transport over.
        is_silent = self.cycle is None and self.transport.get_protocol() is self
        if is_silent and not self.transport.is_closing():
            self.transport.close()


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
