"""Serves `/metrics` over HTTP or HTTPS, in a way that strangers cannot block."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from contextlib import suppress
from io import BufferedIOBase
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Callable, Dict, Iterable, Optional, Tuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app
from typing_extensions import Protocol

from common.domain.address import binding_fault
from common.domain.errors import ConfigurationError
from common.telemetry.metrics import Metrics

MAX_CONNECTIONS = 32
"""The most connections served at a time; a further one takes the place of the oldest."""
REQUEST_SECONDS = 10.0
"""The longest time from connecting to the end of the answer."""
MAX_HEAD_BYTES = 16_384
"""The largest size of a request's line and headers."""

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LOOK_SECONDS = 0.5
_MAY_READ = "tandem.may_read"


class HttpsAccess(Protocol):
    """Serves HTTPS, and knows who may read metrics; used from any thread."""

    def context(self) -> ssl.SSLContext:
        """What the next connection is encrypted by."""

    def admits(self, certificate_der: Optional[bytes], authorization: str) -> bool:
        """Whether a caller may read metrics.

        Args:
            certificate_der: that the handshake has verified; None without one.
            authorization: the header of this name; empty without one.
        """


class _Head:
    """The line and the headers of a request, as a file that ends after `MAX_HEAD_BYTES`."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._left_bytes = MAX_HEAD_BYTES

    def readline(self, limit: int = -1) -> bytes:
        most = self._left_bytes if limit < 0 else min(limit, self._left_bytes)
        line = self._file.readline(most)
        self._left_bytes -= len(line)
        return line

    def close(self) -> None:
        self._file.close()


class _Answer:
    """What is answered, as a file whose reader may hang up as TLS tells it or as TCP does."""

    closed = False

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except ssl.SSLError as error:
            # The one of the two that wsgiref takes for what it is, and does not print.
            raise BrokenPipeError(errno.EPIPE, "the reader hung up") from error

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _Handler(WSGIRequestHandler):
    """Handles one request."""

    # This bounds each read and write; the server ends connections that take too long in all.
    timeout = REQUEST_SECONDS

    def setup(self) -> None:
        """Prepare to read the request."""
        super().setup()
        self.rfile = _Head(self.rfile)  # type: ignore[assignment]
        self.wfile = _Answer(self.wfile)  # type: ignore[assignment]

    def get_environ(self) -> Dict[str, Any]:
        """What the application gets to know of the request."""
        server: Any = self.server
        authorization = self.headers.get("Authorization", "")
        return {**super().get_environ(), _MAY_READ: server.admits(self.connection, authorization)}

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


class _BoundedServer(ThreadingMixIn, WSGIServer):
    """Gives each connection a thread; there are few connections, and each is short."""

    daemon_threads = True
    # Prometheus waits in this queue while strangers connect.
    request_queue_size = 128

    def __init__(
        self,
        address: Tuple[str, int],
        family: socket.AddressFamily,
        access: Optional[HttpsAccess],
    ) -> None:
        self.address_family = family
        self._access = access
        # In the order in which they came, with the time at which they did.
        self._connections: Dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without looking up the name of the host, as `HTTPServer` would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def get_request(self) -> Tuple[Any, Any]:
        """Accept a connection; with HTTPS the handshake comes later, on the connection's thread."""
        try:
            connection, peer = super().get_request()
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                # The connection stays in the queue, so that the next try would come at once.
                time.sleep(_LOOK_SECONDS)
            raise
        if self._access is None:
            return connection, peer
        try:
            return self._access.context().wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            ), peer
        except OSError:
            connection.close()
            raise

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, on its thread."""
        if isinstance(request, ssl.SSLSocket):
            request.settimeout(REQUEST_SECONDS)
            request.do_handshake()
        super().finish_request(request, client_address)

    def admits(self, connection: socket.socket, authorization: str) -> bool:
        """Whether the caller may read metrics; over plain HTTP everybody may."""
        if self._access is None:
            return True
        certificate = (
            connection.getpeercert(binary_form=True)
            if isinstance(connection, ssl.SSLSocket)
            else None
        )
        return self._access.admits(certificate, authorization)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own; the oldest one ends if there are too many."""
        with self._lock:
            if len(self._connections) >= MAX_CONNECTIONS:
                self._cut(next(iter(self._connections)))
            self._connections[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection, and close it."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End the connections that have taken too long; called between connections."""
        oldest = time.monotonic() - REQUEST_SECONDS
        with self._lock:
            for connection in [each for each, since in self._connections.items() if since < oldest]:
                self._cut(connection)

    def _cut(self, connection: socket.socket) -> None:
        """End a connection; the thread that serves it notices."""
        del self._connections[connection]
        with suppress(OSError):
            # That of `SSLSocket` would take its state away under the thread that uses it.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: a connection that ends early concerns its peer only."""


class MetricsServer:
    """Serves metrics at `/metrics` from a thread of its own."""

    def __init__(
        self, metrics: Metrics, host: str, port: int, access: Optional[HttpsAccess] = None
    ) -> None:
        """Bind and start serving.

        Args:
            metrics: what is served.
            host: to listen on.
            port: likewise; 0 picks a free one.
            access: serves HTTPS, and knows who may read them; None: plain HTTP, for everybody.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            self._server = _BoundedServer((str(address[0]), port), family, access)
        except OSError as error:
            raise ConfigurationError(f"metrics: {binding_fault(host, port, error)}") from error
        self._server.set_app(_admitting(make_wsgi_app(metrics.registry)))
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()
        self._sensors = metrics.sensors
        self._sensors.start()

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop serving, and reading sensors."""
        self._sensors.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


_Application = Callable[[Dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _admitting(application: _Application) -> _Application:
    """The application, for callers that may read metrics; others learn that they may not."""

    def admit(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ[_MAY_READ]:
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"forbidden\n"]

    return admit
