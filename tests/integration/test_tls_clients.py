"""Programs that are not ours, against services with the certificates that Tandem makes."""

import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

import grpc
import pytest

from protos.tandem.v1 import operations_pb2, operations_pb2_grpc
from tests.harness import ROOT, Cluster, clean_environment
from tests.issued import files_of, folder_with, secured_by

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of an authority of this module's own."""
    holders = ("client/client", "operator/operator", "monitor/prometheus")
    return folder_with(tmp_path_factory.mktemp("certificates"), *holders)


@pytest.fixture(scope="module")
def secured(folder):
    """A node and an orchestrator, each with a certificate."""
    running = Cluster(secured_by=secured_by(folder), nodes=("edge",))
    yield running
    running.close()


def s_client(address, ca, *more):
    return subprocess.run(
        [
            *("openssl", "s_client", "-connect", address, "-servername", "localhost"),
            *("-verify_hostname", "localhost", "-verify_return_error", "-alpn", "h2"),
            *("-CAfile", str(ca), *map(str, more)),
        ],
        input="",
        capture_output=True,
        text=True,
        # What comes behind the handshake is HTTP/2.
        errors="replace",
        timeout=60,
    )


@needs_openssl
def test_openssl_verifies_every_server(folder, secured):
    ca, certificate, key = files_of(folder, "client/client")
    for server in (secured.orchestrator, *secured.stages.values()):
        told = s_client(server.address, ca, "-cert", certificate, "-key", key)
        assert "Verify return code: 0 (ok)" in told.stdout
        assert "ALPN protocol: h2" in told.stdout
        assert re.search(r"Protocol *: TLSv1\.[23]|New, TLSv1\.[23]", told.stdout)


@needs_openssl
def test_openssl_without_a_certificate_is_refused(folder, secured):
    """TLS 1.2 tells within the handshake; in 1.3 the client would think that it had succeeded."""
    ca, certificate, key = files_of(folder, "client/client")
    with_it = s_client(secured.address, ca, "-tls1_2", "-cert", certificate, "-key", key)
    assert with_it.returncode == 0
    without = s_client(secured.address, ca, "-tls1_2")
    assert without.returncode != 0
    assert re.search("alert|unexpected eof", without.stderr)


@needs_openssl
def test_openssl_refuses_a_server_of_another_authority(folder, secured, made):
    _, certificate, key = files_of(folder, "client/client")
    other = made / "client" / "peers-ca.crt"
    told = s_client(secured.address, other, "-cert", certificate, "-key", key)
    assert told.returncode != 0
    assert "Verify return code: 0 (ok)" not in told.stdout


def test_a_client_that_knows_nothing_of_tandem_but_its_protos(folder, secured):
    """As of grpcurl: an ordinary channel, with the host's name checked as always."""
    ca, certificate, key = (path.read_bytes() for path in files_of(folder, "operator/operator"))
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    port = secured.address.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        with grpc.secure_channel(f"{host}:{port}", credentials) as channel:
            stub = operations_pb2_grpc.OperationsStub(channel)
            told = stub.GetStatus(operations_pb2.GetStatusRequest(), timeout=60)
            assert len(told.stages) == 2


def test_a_monitor_scrapes_every_service(folder, secured):
    ca, certificate, key = map(str, files_of(folder, "monitor/prometheus"))
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    for server in (secured.orchestrator, *secured.stages.values()):
        assert server.metrics_url.startswith("https://127.0.0.1:")
        with urllib.request.urlopen(server.metrics_url, context=context, timeout=60) as page:
            (ends,) = re.findall(
                r"^tandem_certificate_expiry_timestamp_seconds (\S+)$",
                page.read().decode(),
                re.MULTILINE,
            )
        assert 364 < (float(ends) - time.time()) / 86_400 <= 365


def test_a_probe_shows_the_services_own_certificate(folder, secured):
    def probe(holder):
        variables = dict(zip(("PEERS_CA", "CERTIFICATE", "KEY"), files_of(folder, holder)))
        environment = {f"TANDEM_TLS_{name}": str(path) for name, path in variables.items()}
        return subprocess.run(
            [sys.executable, "-m", "common.server.probe", secured.stages["edge.backbone"].address],
            cwd=ROOT,
            env={**clean_environment(), **environment},
            capture_output=True,
            text=True,
        )

    own = probe("backbone/edge")
    assert (own.returncode, own.stderr) == (0, "")
    # It expects itself, and another service answers.
    assert probe("transformer/edge").returncode == 1
    assert probe("client/client").returncode == 1


def test_plain_text_gets_no_answer(secured):
    host, _, port = secured.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        received = connection.recv(1024)
    # An alert of TLS at most.
    assert received[:1] in (b"", b"\x15")
