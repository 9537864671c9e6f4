"""Metrics over HTTPS: for monitors alone, with files that change, and unmoved by strangers."""

import shutil
import socket
import ssl
import struct
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager

import pytest
from prometheus_client import Gauge

from common.certificates.folder import AuthorityFolder, set_up
from common.security.identity import Identity, Role
from common.security.tls import TlsFiles, TlsPaths
from common.security.tokens import TokenFiles, new_token, token_digest
from common.server.metrics_access import MetricsAccess
from common.telemetry.exposition import MAX_CONNECTIONS, MetricsServer
from common.telemetry.metrics import Metrics

SERVER = Identity(Role.TRANSFORMER, "edge")
MONITOR = Identity(Role.MONITOR, "prometheus")
CLIENT = Identity(Role.CLIENT, "client")


@pytest.fixture
def folder(tmp_path):
    folder = AuthorityFolder.create(tmp_path / "certificates")
    set_up(folder, {}, holders=(SERVER, MONITOR, CLIENT))
    (folder.path / "revoked.txt").write_text("")
    return folder


def tls_of(folder):
    certificate, key = folder.files_of(SERVER)
    ca = folder.path / "authority"
    return TlsFiles(
        TlsPaths(
            certificate=certificate,
            key=key,
            peers_ca=ca / "peers-ca.crt",
            clients_ca=ca / "clients-ca.crt",
            revoked=folder.path / "revoked.txt",
        )
    )


@contextmanager
def serving(access):
    metrics = Metrics()
    Gauge("tandem_toy", "A toy.", registry=metrics.registry).set(7)
    server = MetricsServer(metrics, "127.0.0.1", 0, access)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server(folder):
    with serving(MetricsAccess(tls_of(folder))) as server:
        yield server


def context(folder, holder=None):
    context = ssl.create_default_context(cafile=str(folder.path / "authority/peers-ca.crt"))
    if holder is not None:
        context.load_cert_chain(*map(str, folder.files_of(holder)))
    return context


def scrape(server, tls, **headers):
    request = urllib.request.Request(f"https://localhost:{server.port}/metrics", headers=headers)
    with urllib.request.urlopen(request, context=tls, timeout=60) as page:
        return page.read().decode()


def refusal(server, tls, **headers):
    """The status and the text of an answer that refuses."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        scrape(server, tls, **headers)
    with caught.value as answer:
        return answer.code, answer.read()


FORBIDDEN = (403, b"forbidden\n")


def serial_of(server, tls):
    """Of the certificate that the server shows."""
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    with tls.wrap_socket(plain, server_hostname="localhost") as connection:
        return int(connection.getpeercert()["serialNumber"], 16)


def test_a_monitor_reads_them(folder, server):
    assert "tandem_toy 7.0" in scrape(server, context(folder, MONITOR))


def test_another_role_is_forbidden(folder, server):
    for other in (CLIENT, SERVER):
        assert refusal(server, context(folder, other)) == FORBIDDEN


def test_a_caller_without_a_certificate_or_of_another_authority_gets_no_answer(
    folder, server, tmp_path
):
    other = AuthorityFolder.create(tmp_path / "other")
    other.issue(MONITOR)
    stranger = context(folder)
    stranger.load_cert_chain(*map(str, other.files_of(MONITOR)))
    for tls in (context(folder), stranger):
        with pytest.raises((OSError, ssl.SSLError)):
            scrape(server, tls)
    with pytest.raises((OSError, ValueError)):
        urllib.request.urlopen(f"http://localhost:{server.port}/metrics", timeout=60)


def test_an_expired_monitor_gets_no_answer(folder, server):
    folder.issue(MONITOR, days=0)
    with pytest.raises((OSError, ssl.SSLError)):
        scrape(server, context(folder, MONITOR))


@pytest.mark.parametrize("new_key", [False, True])
def test_a_renewed_certificate_is_taken_up(folder, server, new_key):
    monitor = context(folder, MONITOR)
    former = serial_of(server, monitor)
    folder.issue(SERVER, new_key=new_key)
    assert serial_of(server, monitor) != former
    assert "tandem_toy 7.0" in scrape(server, monitor)


def test_half_a_renewal_changes_nothing_until_its_other_half_comes(folder, server):
    monitor = context(folder, MONITOR)
    former = serial_of(server, monitor)
    certificate, key = folder.files_of(SERVER)
    held = certificate.with_suffix(".held")
    shutil.copy(certificate, held)
    folder.issue(SERVER, new_key=True)
    renewed = certificate.with_suffix(".new")
    certificate.rename(renewed)
    held.rename(certificate)
    assert serial_of(server, monitor) == former
    renewed.rename(certificate)
    assert serial_of(server, monitor) != former


def test_another_authority_is_taken_up_and_the_former_is_out(folder, server, tmp_path):
    other = AuthorityFolder.create(tmp_path / "other")
    other.issue(MONITOR)
    former = context(folder, MONITOR)
    scrape(server, former)
    for path in (other.path / "authority").glob("*.crt"):
        shutil.copy(path, folder.path / "authority" / path.name)
    with pytest.raises((OSError, ssl.SSLError)):
        scrape(server, former)


def test_strangers_that_never_shake_hands_keep_nobody_out(folder, server):
    """The fault: a handshake on the thread that accepts, or connections that are never cut."""
    monitor = context(folder, MONITOR)
    started = time.monotonic()
    with ExitStack() as connections:
        for _ in range(2 * MAX_CONNECTIONS):
            connections.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert "tandem_toy 7.0" in scrape(server, monitor)
    # Each of them may take ten seconds.
    assert time.monotonic() - started < 9.5


def test_a_revoked_monitor_is_forbidden_from_then_on(folder, server):
    monitor = context(folder, MONITOR)
    scrape(server, monitor)
    (folder.path / "revoked.txt").write_text("monitor/prometheus\n")
    assert refusal(server, monitor) == FORBIDDEN


def test_a_monitor_may_have_a_token_instead(folder):
    token, other = new_token(), new_token()
    listed = folder.path / "tokens.yaml"
    listed.write_text(
        "tokens:\n"
        f"- {{identity: monitor/prometheus, sha256: {token_digest(token)}}}\n"
        f"- {{identity: client/camera, sha256: {token_digest(other)}}}\n"
    )
    with serving(MetricsAccess(tls_of(folder), TokenFiles(listed))) as server:
        told = scrape(server, context(folder), Authorization=f"Bearer {token}")
        assert "tandem_toy 7.0" in told
        assert "tandem_toy 7.0" in scrape(server, context(folder, MONITOR))
        for headers in ({}, {"Authorization": f"Bearer {other}"}, {"Authorization": "Bearer x"}):
            assert refusal(server, context(folder), **headers) == FORBIDDEN


def test_monitors_that_hang_up_leave_no_traceback(folder, server, capfd):
    monitor = context(folder, MONITOR)
    for _ in range(20):
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        # Closing resets the connection, so that the answer cannot be written.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with monitor.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert "tandem_toy 7.0" in scrape(server, monitor)
    assert capfd.readouterr().err == ""
