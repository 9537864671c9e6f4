"""A connection over TLS that breaks off is told from one that a server refuses."""

import contextlib
import socket
import ssl
import struct
import sys
import threading

import pytest

from common.domain.errors import AccessDeniedError, TandemError, UnavailableError
from tests.authorities import HOUR, NOW, Authority, Realm

if sys.version_info < (3, 11):  # noqa: UP036 - the services' tests run on 3.8, too
    pytest.skip("the tandem library needs Python 3.11", allow_module_level=True)

import tandem

HTTP2_SETTINGS = bytes.fromhex("000000040000000000")


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    """Authorities of this module's own: no service of Tandem's runs here."""
    return Realm(tmp_path_factory.mktemp("realm"))


@contextlib.contextmanager
def serving(handle):
    """A server that gives each connection, and its number from 0, to a function; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run():
            number = 0
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with contextlib.suppress(OSError), connection:
                        handle(connection, number)
                    number += 1

        thread = threading.Thread(target=run)
        thread.start()
        host, port = listener.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def speaking_tls(realm, behind_handshake, **settings):
    """A handler that asks for a certificate of the realm's clients."""
    pair = realm.issue("orchestrator/here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(realm.clients.path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    for name, value in settings.items():
        setattr(context, name, value)

    def handle(connection, number):
        with context.wrap_socket(connection, server_side=True) as secured:
            behind_handshake(secured, number)

    return handle


def close(connection, _):
    connection.close()


def reset(connection, _):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reset_in_handshake(connection, _):
    connection.recv(65_536)
    reset(connection, _)


def close_the_first(connection, number):
    """As of a server that ended behind the handshake, and whose successor is there at once."""
    if number > 0:
        connection.sendall(HTTP2_SETTINGS)
        # Until the other side closes.
        while connection.recv(65_536):
            pass


def credentials_of(realm, pair):
    return tandem.Credentials(realm.peers.path, pair.certificate, pair.key)


async def told(address, credentials):
    """What somebody is told who asks for the status."""
    with pytest.raises(TandemError) as caught:
        async with tandem.DetectorClient(address, credentials=credentials) as client:
            await client.status()
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "handler",
    [
        lambda _: close,
        lambda _: reset,
        lambda _: reset_in_handshake,
        lambda realm: speaking_tls(realm, close_the_first),
    ],
    ids=["closed", "reset", "reset in the handshake", "closed once behind the handshake"],
)
async def test_a_lost_connection_is_no_refused_certificate(realm, handler):
    credentials = credentials_of(realm, realm.issue("client/camera"))
    with serving(handler(realm)) as address:
        kind, sentence = await told(address, credentials)
    assert kind is UnavailableError
    assert sentence == f"the connection to the server at {address} was lost"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("whose", ["a stranger's", "an old one"])
async def test_a_refused_certificate_is_told_whatever_the_server_speaks(
    realm, tmp_path, version, whose
):
    """TLS 1.2 refuses within the handshake, 1.3 behind it, and OpenSSL says why by an alert."""
    if whose == "a stranger's":
        pair = Authority(tmp_path).issue("client/camera")
    else:
        pair = realm.clients.issue("client/camera", file_name="old", ends=NOW - HOUR / 2)
    with serving(speaking_tls(realm, close, maximum_version=version)) as address:
        kind, sentence = await told(address, credentials_of(realm, pair))
    assert kind is AccessDeniedError
    assert sentence == (
        f"the server at {address} closes the connection: it does not accept this certificate, "
        "which has expired or is of an authority that is not trusted there"
    )


async def test_a_token_at_a_port_for_certificates_is_told(realm):
    with serving(speaking_tls(realm, close)) as address:
        kind, sentence = await told(address, tandem.Credentials(realm.peers.path, token="abc"))
    assert kind is AccessDeniedError
    assert sentence.endswith("it wants a certificate there, not a token")
