"""A process's files of TLS: read, read again, and kept while they make no sense."""

import os

import pytest
import structlog

from common.domain.errors import ConfigurationError
from common.security.certificates import read_certificates
from common.security.quotas import QuotaFile
from common.security.tls import TlsFiles, TlsPaths
from common.security.tokens import TokenFiles
from common.security.watched import WatchedFiles
from common.server.metrics_access import MetricsAccess, require_https
from tests.authorities import HOUR, NOW, Authority, replace

from cryptography.hazmat.primitives.asymmetric import rsa  # isort: skip


@pytest.fixture
def peers(tmp_path):
    return Authority(tmp_path, "peers")


@pytest.fixture
def clients(tmp_path):
    return Authority(tmp_path, "clients")


@pytest.fixture
def own(peers):
    return peers.issue("backbone/edge")


def files_of(peers, own, clients=None, revoked=None):
    paths = TlsPaths(
        peers_ca=peers.path,
        certificate=own.certificate,
        key=own.key,
        clients_ca=clients and clients.path,
        revoked=revoked,
    )
    return TlsFiles(paths)


def fingerprint(pair):
    return read_certificates(pair.certificate_pem)[0].fingerprint


def test_a_renewed_pair_is_taken_up_only_when_it_is_whole(peers, own):
    files = files_of(peers, own)
    before = files.material
    assert files.material is before
    renewed = peers.issue("backbone/edge", file_name="renewed")
    with structlog.testing.capture_logs() as logs:
        replace(own.certificate, renewed.certificate_pem)
        # The key is still the old one: the pair stays, and the log says so once.
        assert [files.material, files.material] == [before, before]
        assert [each["event"] for each in logs] == ["files keep their old content"]
        assert "does not belong to the certificate" in logs[0]["error"]
        replace(own.key, renewed.key_pem)
        after = files.material
    assert after.pair == (renewed.key_pem, renewed.certificate_pem)
    assert [each["event"] for each in logs[1:]] == ["files read again"]


def test_files_that_are_half_written_or_gone_change_nothing(peers, own):
    files = files_of(peers, own)
    before = files.material
    own.certificate.write_bytes(own.certificate_pem[:100])
    assert files.material is before
    own.key.unlink()
    assert files.material is before
    own.write(own.certificate.parent, "backbone.edge")
    assert files.material.pair == before.pair


def test_a_file_of_authorities_that_is_half_written_keeps_the_second_one(peers, own, tmp_path):
    other = Authority(tmp_path, "other")
    camera = other.issue("client/camera")
    peers.path.write_bytes(peers.pem + other.pem)
    files = files_of(peers, own)
    assert files.material.proof(camera.certificate_pem) is not None
    peers.path.write_bytes(peers.pem + other.pem[:200])
    assert files.material.proof(camera.certificate_pem) is not None
    peers.path.write_bytes(peers.pem)
    assert files.material.proof(camera.certificate_pem) is None


@pytest.mark.parametrize("comment", ["# Prüfstelle\n".encode(), b"# \xe4\n", b"\xef\xbb\xbf"])
def test_what_else_a_file_holds_is_no_part_of_it(peers, own, comment):
    for path in (peers.path, own.certificate):
        path.write_bytes(comment + path.read_bytes() + b"\n# the end\n")
    files = files_of(peers, own)
    assert files.material.pair == (own.key_pem, own.certificate_pem)
    assert files.material.peers_pem == files.material.roots_pem == peers.pem
    # Python's TLS takes ASCII only, and gRPC's takes all.
    MetricsAccess(files)


def test_a_pair_that_cannot_serve_changes_nothing(peers, own):
    files = TlsFiles(TlsPaths(peers.path, own.certificate, own.key), require_https)
    before = files.material
    weak = peers.issue("backbone/edge", file_name="weak", key=rsa.generate_private_key(65537, 1024))
    weak.write(own.certificate.parent, "backbone.edge")
    with structlog.testing.capture_logs() as logs:
        assert files.material is before
    assert "cannot serve HTTPS" in logs[0]["error"]
    with pytest.raises(ConfigurationError, match="cannot serve HTTPS"):
        TlsFiles(TlsPaths(peers.path, own.certificate, own.key), require_https)


def test_files_of_which_none_is_there_are_told(tmp_path):
    missing = tmp_path / "missing"
    words = f"cannot read {missing}: No such file"
    for read in (
        lambda: TokenFiles(missing),
        lambda: TokenFiles(tmp_path, missing),
        lambda: QuotaFile(missing),
        lambda: TlsFiles(TlsPaths(missing)),
    ):
        with pytest.raises(ConfigurationError, match=words):
            read()


def test_a_change_that_no_time_and_no_size_shows_is_seen_while_it_is_recent(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"1")
    files = WatchedFiles([path], lambda held: held[path])
    stat = os.stat(path)
    path.write_bytes(b"2")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert files.content == b"2"


def test_a_service_stays_who_it_is(peers, own):
    files = files_of(peers, own)
    before = files.material
    peers.issue("backbone/workstation").write(own.certificate.parent, "backbone.edge")
    assert files.material is before


def test_an_authority_that_is_no_longer_trusted_proves_nothing(peers, own, clients, tmp_path):
    files = files_of(peers, own, clients)
    camera = clients.issue("client/camera")
    assert str(files.material.proof(camera.certificate_pem).identity) == "client/camera"
    replace(clients.path, Authority(tmp_path, "next").pem)
    assert files.material.proof(camera.certificate_pem) is None


def test_only_the_peers_authority_issues_peers_and_only_the_clients_the_rest(peers, own, clients):
    material = files_of(peers, own, clients).material
    for identity in ("orchestrator/main", "backbone/edge", "transformer/edge"):
        assert material.proof(peers.issue(identity).certificate_pem) is not None
        assert material.proof(clients.issue(identity).certificate_pem) is None
    for identity in ("client/camera", "operator/ann", "monitor/prometheus"):
        assert material.proof(clients.issue(identity).certificate_pem) is not None
        assert material.proof(peers.issue(identity).certificate_pem) is None


def test_one_authority_may_issue_all(peers, own):
    material = files_of(peers, own).material
    for identity in ("orchestrator/main", "client/camera"):
        assert material.proof(peers.issue(identity).certificate_pem) is not None


def test_an_expired_certificate_proves_nothing(peers, own):
    expired = peers.issue("client/camera", ends=NOW - HOUR / 2)
    assert files_of(peers, own).material.proof(expired.certificate_pem) is None


@pytest.mark.parametrize("form", ["sha256:{}", "SHA256:{} # stolen", "colons", "client/camera"])
def test_what_is_revoked_proves_nothing(peers, own, tmp_path, form):
    camera, other = peers.issue("client/camera"), peers.issue("client/other")
    digits = fingerprint(camera)
    pairs = ":".join(digits[at : at + 2].upper() for at in range(0, 64, 2))
    entry = f"sha256:{pairs}" if form == "colons" else form.format(digits)
    revoked = tmp_path / "revoked"
    # As an editor on Windows writes it.
    revoked.write_text(f"\ufeff# refused\r\n\r\n{entry}\r\n", encoding="utf-8")
    files = files_of(peers, own, revoked=revoked)
    assert files.material.proof(camera.certificate_pem) is None
    assert files.material.proof(other.certificate_pem) is not None
    replace(revoked, b"")
    assert files.material.proof(camera.certificate_pem) is not None


def test_what_a_revoked_authority_has_signed_proves_nothing(peers, own, tmp_path):
    other = Authority(tmp_path, "other")
    mine, others = peers.issue("client/mine"), other.issue("client/others")
    peers.path.write_bytes(peers.pem + other.pem)
    revoked = tmp_path / "revoked"
    revoked.write_text(f"sha256:{read_certificates(other.pem)[0].fingerprint}\n")
    material = files_of(peers, own, revoked=revoked).material
    assert material.proof(mine.certificate_pem) is not None
    assert material.proof(others.certificate_pem) is None


def test_files_that_make_no_sense_are_refused_at_start(peers, own, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("sha256:12\n")
    with pytest.raises(ConfigurationError, match=r"wrong: 'sha256:12' is neither"):
        files_of(peers, own, revoked=wrong)
    wrong.write_text("client/*\n")
    with pytest.raises(ConfigurationError, match=r"'client/\*': \* stands for nobody"):
        files_of(peers, own, revoked=wrong)
    with pytest.raises(ConfigurationError, match="holds no certificate"):
        files_of(peers, own._replace(certificate=wrong))
    with pytest.raises(ConfigurationError, match="holds no private key"):
        files_of(peers, own._replace(key=wrong))
    with pytest.raises(ConfigurationError, match="cannot read .*missing: No such file"):
        files_of(peers, own._replace(key=tmp_path / "missing"))
    other = peers.issue("backbone/workstation")
    with pytest.raises(ConfigurationError, match="does not belong to the certificate"):
        files_of(peers, own._replace(key=other.key))
