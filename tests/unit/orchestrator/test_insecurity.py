"""What `tandem status` warns of."""

import os

import pytest

from common.domain.address import is_loopback
from common.security.identity import Identity
from common.security.tls import TlsFiles, TlsPaths
from services.orchestrator.insecurity import Insecurity
from tests.issued import files_of, folder_with

HERE = ("127.0.0.1:50051", "[::1]:50052", "localhost:1", "unix:/run/stage", "127.0.0.2:1")
OPEN = "other machines reach this orchestrator without TLS: anybody there may do anything"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "unix:/run/o"])
def test_one_machine_needs_no_tls(host):
    assert Insecurity(host, HERE, None).warnings() == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_orchestrator_is_told(host):
    assert Insecurity(host, HERE, None).warnings() == (OPEN,)


def test_stages_elsewhere_are_told_once_each():
    stages = (*HERE, "tx2.local:50051", "10.0.0.5:50052", "tx2.local:50051")
    assert Insecurity("127.0.0.1", stages, None).warnings() == (
        "frames and features travel without TLS to 10.0.0.5:50052, tx2.local:50051",
    )


def test_with_tls_only_what_ends_soon_is_told_until_it_is_renewed(tmp_path):
    folder = folder_with(tmp_path, "orchestrator/edge")
    ca, certificate, key = files_of(folder, "orchestrator/edge")
    tls = TlsFiles(TlsPaths(peers_ca=ca, certificate=certificate, key=key))
    insecurity = Insecurity("0.0.0.0", ("tx2.local:50051",), tls)
    assert insecurity.warnings() == ()
    for days, told in (
        (29, ("the orchestrator's certificate expires in 28 days",)),
        (0, ("the orchestrator's certificate has expired",)),
        (60, ()),
    ):
        folder.issue(Identity.parse("orchestrator/edge"), days=days)
        # A change within the same tick of the file system's clock is a change all the same.
        os.utime(certificate)
        assert insecurity.warnings() == told


@pytest.mark.parametrize("host", ["tx2.local", "0.0.0.0", "10.0.0.1", "::", "fe80::1%eth0"])
def test_what_is_not_plainly_here_is_elsewhere(host):
    assert not is_loopback(host)
