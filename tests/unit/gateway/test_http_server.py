"""The HTTP server's own part: connections that stay silent, certificates that change, its end."""

import asyncio
import ssl
import time
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from websockets.asyncio.client import connect

from common.certificates.folder import AuthorityFolder, set_up
from common.domain.errors import InternalError
from common.security.identity import Identity, Role
from common.security.tls import TlsFiles, TlsPaths
from services.gateway.http_server import BoundedProtocol, HttpServer
from tests.waiting import PATIENCE_SECONDS, until

GATEWAY = Identity(Role.GATEWAY, "main")


class Impatient(BoundedProtocol):
    patience_seconds = body_seconds = answer_seconds = 0.2


async def application(scope, receive, send):
    """Answers each request, and sends each message of a WebSocket back."""
    if scope["type"] == "http":
        if scope["path"] == "/body":
            await Request(scope, receive).body()
        text = "here" if scope["path"] != "/large" else "large" * (8 << 20)
        await PlainTextResponse(text)(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


@asynccontextmanager
async def serving(tls=None, protocol=BoundedProtocol):
    server = HttpServer(application, "127.0.0.1", 0, tls, grace_seconds=1.0, protocol=protocol)
    draining = asyncio.Event()
    work = asyncio.create_task(server.serve(draining))
    try:
        yield server
    finally:
        draining.set()
        await work
        server.close()


@asynccontextmanager
async def connected(server, **more):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port, **more)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_a_connection_that_sends_no_request_is_closed():
    async with serving(protocol=Impatient) as server, asyncio.timeout(14):
        for beginning in (b"", b"GET / HTTP/1.1\r\nHost: loc"):
            async with connected(server) as (reader, writer):
                writer.write(beginning)
                assert await reader.read() == b""


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("beginning", "dripping"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"x"),
        (GET + b"GET / HTTP/1.1\r\nX: ", b"x"),
        (POST % b"/body", b"x"),
        # It is answered before its body has come.
        (POST % b"/", b"x"),
    ],
    ids=["head", "second head", "body", "body of an answered request"],
)
async def test_who_sends_a_request_drop_by_drop_is_left(beginning, dripping):
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        serving(protocol=Impatient) as server,
        connected(server) as (reader, writer),
    ):
        writer.write(beginning)
        left = asyncio.create_task(reader.read())
        while not left.done():
            writer.write(dripping)
            await asyncio.wait({left}, timeout=0.02)
        with suppress(ConnectionError):
            left.result()


async def test_who_does_not_read_the_answer_is_left():
    async with (
        serving(protocol=Impatient) as server,
        connected(server, limit=1 << 10) as (_, writer),
    ):
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        state = server._server.server_state
        await until(lambda: state.total_requests == 1 and not state.connections)


async def test_one_that_did_and_a_websocket_stay():
    async with (
        asyncio.timeout(60),
        serving(protocol=Impatient) as server,
        connect(f"ws://127.0.0.1:{server.address.port}/") as socket,
        connected(server) as (reader, writer),
        connected(server) as (silent, _),
    ):
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(request)
        assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
        # The silent one tells that the time of all has passed.
        assert await silent.read() == b""
        writer.write(request)
        assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
        await socket.send("still")
        assert await socket.recv() == "still"


async def test_a_server_that_ends_by_itself_is_a_failure():
    server = HttpServer(application, "127.0.0.1", 0, None, grace_seconds=1.0)
    # What uvicorn does when its own work is over.
    server._server.should_exit = True
    with pytest.raises(InternalError, match="the HTTP server has ended"):
        async with asyncio.timeout(60):
            await server.serve(asyncio.Event())
    server.close()


async def serial_of(server, trusting):
    """Of the certificate that a new connection is shown."""
    more = {"ssl": trusting, "server_hostname": "localhost"}
    async with connected(server, **more) as (_, writer):
        return int(writer.get_extra_info("peercert")["serialNumber"], 16)


async def test_new_connections_use_a_renewed_certificate(tmp_path):
    folder = AuthorityFolder.create(tmp_path / "certificates")
    set_up(folder, {}, holders=(GATEWAY,))
    certificate, key = folder.files_of(GATEWAY)
    ca = folder.path / "authority/peers-ca.crt"
    trusting = ssl.create_default_context(cafile=str(ca))
    async with serving(TlsFiles(TlsPaths(ca, certificate, key))) as server:
        first = await serial_of(server, trusting)
        folder.issue(GATEWAY, new_key=True)
        until = time.monotonic() + 60
        while (renewed := await serial_of(server, trusting)) == first:
            assert time.monotonic() < until
        assert renewed != first
        assert server.url.startswith("https://")
