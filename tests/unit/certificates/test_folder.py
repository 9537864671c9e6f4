"""Certificates are renewed in place, in whole pairs, and only where there is a reason."""

import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from common.certificates.archive import unpack
from common.certificates.folder import AuthorityFolder, set_up
from common.certificates.reading import certificate_files, report_on
from common.domain.errors import ConfigurationError, InvalidInputError
from common.security.certificates import read_certificates
from common.security.identity import Identity
from common.security.tokens import TokenFiles
from tests.authorities import Authority
from tests.harness import ROOT, clean_environment

EDGE = Identity.parse("backbone/edge")


@pytest.fixture
def folder(made, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(made, tmp_path / "copy")
    return AuthorityFolder.open(tmp_path / "copy")


def contents(folder):
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def changed(before, folder):
    return {
        str(path.relative_to(folder.path))
        for path, content in contents(folder).items()
        if before.get(path) != content
    }


def test_an_authority_is_never_overwritten(folder):
    before = contents(folder)
    with pytest.raises(ConfigurationError, match="not overwritten"):
        AuthorityFolder.create(folder.path)
    (folder.path / "authority" / "peers-ca.key").unlink()
    with pytest.raises(ConfigurationError, match="not overwritten"):
        AuthorityFolder.create(folder.path)
    assert not changed(before, folder)


def test_without_an_authority_nothing_is_issued(tmp_path):
    with pytest.raises(ConfigurationError, match="tandem certificates init"):
        AuthorityFolder.open(tmp_path)


def test_issuing_again_keeps_key_and_hosts(folder):
    before = contents(folder)
    hosts = report_on(folder.path / "edge/backbone.crt").hosts
    issued = folder.issue(EDGE, days=10)
    assert changed(before, folder) == {"edge/backbone.crt"}
    report = report_on(issued.certificate)
    assert sorted(report.hosts) == sorted(hosts)
    assert report.warnings == ("expires in 9 days",)
    assert not issued.is_new_key


def test_other_hosts_take_the_place_of_those_that_are_there(folder):
    issued = folder.issue(EDGE, ["elsewhere.example"])
    hosts = report_on(issued.certificate).hosts
    assert "elsewhere.example" in hosts
    assert "tx2.example" not in hosts


def test_a_new_key_comes_if_it_is_asked_for(folder):
    before = contents(folder)
    issued = folder.issue(EDGE, new_key=True)
    assert changed(before, folder) == {"edge/backbone.crt", "edge/backbone.key"}
    assert report_on(issued.certificate).warnings == ()
    assert issued.key.stat().st_mode & 0o777 == 0o600


def test_a_reader_gets_a_pair_that_belongs_together_at_any_moment(folder):
    """The fault: a service that reads between the two files, and fails or serves nobody."""
    certificate, key = folder.files_of(EDGE)
    done, faults, reads = threading.Event(), [], []

    def read():
        while not done.is_set() or not reads:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
                reads.append(1)
            except (OSError, ssl.SSLError) as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        folder.issue(EDGE)
    done.set()
    reader.join()
    assert reads
    assert not faults


def test_only_what_is_due_is_issued_again(folder):
    assert set_up(folder, {}) == []
    folder.issue(EDGE, days=29)
    (folder.path / "client" / "client.crt").unlink()
    (folder.path / "prometheus" / "monitor.crt").write_text("damaged")
    issued = set_up(folder, {"workstation": ["192.168.1.10"]})
    due = {str(each.holder) for each in issued}
    servers = {
        f"{role}/workstation" for role in ("backbone", "transformer", "gateway", "orchestrator")
    }
    assert due == servers | {"backbone/edge", "client/client", "monitor/prometheus"}
    assert set_up(folder, {"workstation": ["192.168.1.10"]}) == []
    for holder in ("backbone", "transformer", "gateway", "orchestrator"):
        assert "tx2.example" in report_on(folder.path / f"edge/{holder}.crt").hosts


def test_hosts_of_an_unknown_node_are_refused(folder):
    with pytest.raises(InvalidInputError, match="'egde' is no node"):
        set_up(folder, {"egde": ["tx2.example"]})


def test_nobody_connects_to_a_client(folder):
    with pytest.raises(InvalidInputError, match="nobody connects to a client"):
        folder.issue(Identity.parse("client/a"), ["tx2.example"])


def test_a_key_of_another_kind_is_no_reason_for_a_traceback(folder):
    key = folder.files_of(EDGE)[1]
    key.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigurationError, match="no private key") as caught:
        folder.issue(EDGE)
    assert "c2VjcmV0" not in str(caught.value)


def test_reports_tell_what_is_wrong(folder):
    certificate, key = folder.files_of(EDGE)
    key.chmod(0o644)
    (warning,) = report_on(certificate).warnings
    assert warning.startswith("others may read its key")
    shutil.copy(folder.path / "edge/transformer.key", key)
    assert report_on(certificate).warnings[-1] == f"{key} is not its key"
    folder.issue(Identity.parse("client/client"), days=29)
    (warning,) = report_on(folder.path / "client/client.crt").warnings
    assert warning == "expires in 28 days"
    parsed = x509.load_pem_x509_certificate((folder.path / "client/client.crt").read_bytes())
    report = report_on(folder.path / "client/client.crt", parsed.not_valid_after_utc)
    assert report.warnings == (f"expired on {parsed.not_valid_after_utc:%Y-%m-%d}",)


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["spiffe://tandem/client/a", "https://elsewhere/a"],
        ["spiffe://tandem/client/a", "spiffe://tandem/operator/a"],
        ["spiffe://tandem.elsewhere/client/a"],
        ["spiffe://tandem/client/a/"],
        ["spiffe://tandem/clients/a"],
        ["SPIFFE://tandem/client/a"],
        ["client/a"],
    ],
)
def test_what_services_take_for_no_identity_is_not_told_as_one(tmp_path, uris):
    pair = Authority(tmp_path).issue(None, uris=uris)
    report = report_on(pair.certificate)
    assert read_certificates(pair.certificate_pem)[0].identity is None
    assert report.identity == ""
    told = [each for each in report.warnings if each.startswith("names no identity")]
    assert len(told) == 1
    assert told[0].endswith(f"find {', '.join(uris) or 'none'}")


def test_what_keeps_services_from_calling_each_other_is_told(tmp_path):
    authority = Authority(tmp_path)
    nameless = authority.issue(None, uris=["spiffe://tandem/backbone/edge"])
    told = report_on(nameless.certificate).warnings
    assert any("lacks the DNS name edge.backbone.tandem.internal" in each for each in told)
    pair = authority.issue("backbone/edge", purposes=[ExtendedKeyUsageOID.SERVER_AUTH])
    told = report_on(pair.certificate).warnings
    assert "is not for client authentication, by its extended key usage" in told
    camera = authority.issue("client/camera", purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])
    assert not any("authentication" in each for each in report_on(camera.certificate).warnings)


def test_what_is_no_certificate_is_refused_in_a_sentence(folder, tmp_path):
    with pytest.raises(InvalidInputError, match="is a private key") as caught:
        report_on(folder.files_of(EDGE)[1])
    assert "BEGIN" not in str(caught.value)
    der = tmp_path / "der.crt"
    parsed = x509.load_pem_x509_certificate(folder.files_of(EDGE)[0].read_bytes())
    der.write_bytes(parsed.public_bytes(serialization.Encoding.DER))
    with pytest.raises(InvalidInputError, match="no certificate in PEM"):
        report_on(der)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="holds no certificate"):
        certificate_files(tmp_path / "empty")


def module(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "common.certificates", *map(str, arguments)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )


def test_containers_start_again_and_again(tmp_path):
    told = ("init", tmp_path, "--host", "edge=10.0.0.5", "--host", "workstation=0.0.0.0")
    more = ("--host", "edge=", "--group-reads", "prometheus")
    first = module(*told, *more)
    assert (first.returncode, first.stderr, first.stdout.count("issued")) == (0, "", 11)
    assert "10.0.0.5" in report_on(tmp_path / "edge/backbone.crt").hosts
    assert "0.0.0.0" not in report_on(tmp_path / "workstation/backbone.crt").hosts
    assert (tmp_path / "prometheus/monitor.key").stat().st_mode & 0o777 == 0o640
    again = module(*told, *more)
    assert (again.returncode, again.stderr, again.stdout) == (0, "", "")
    moved = module("init", tmp_path, "--host", "edge=10.0.0.6")
    assert moved.stdout.count("issued") == 4


def test_a_wrong_host_is_a_sentence(tmp_path):
    failed = module("init", tmp_path, "--host", "edge=tx2:50051")
    assert failed.returncode == 2
    assert failed.stderr.startswith("python -m common.certificates: 'tx2:50051' is no host")
    assert "Traceback" not in failed.stderr


def test_an_archive_of_a_folder_is_unpacked(made, tmp_path):
    archive, to = tmp_path / "edge.tar", tmp_path / "to"
    to.mkdir()
    with tarfile.open(archive, "w") as members:
        members.add(made / "edge", "edge")
    told = module("unpack", archive, to)
    assert told.returncode == 0, told.stderr
    names = {path.name for path in (made / "edge").iterdir()}
    assert {path.name for path in to.iterdir()} == names
    assert {path.stat().st_mode & 0o777 for path in to.glob("*.key")} == {0o600}
    assert (to / "backbone.key").read_bytes() == (made / "edge/backbone.key").read_bytes()
    assert module("unpack", archive, to).stdout == ""
    archive.unlink()
    kept = module("unpack", archive, to)
    assert (kept.returncode, kept.stdout) == (0, "")


def test_a_device_without_its_archive_is_told_so(tmp_path):
    failed = module("unpack", tmp_path / "edge.tar", tmp_path)
    assert failed.returncode == 2
    assert "edge.tar" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_an_archive_cannot_write_elsewhere(tmp_path):
    archive, to = tmp_path / "evil.tar", tmp_path / "to"
    to.mkdir()
    (tmp_path / "a.crt").write_text("a")
    with tarfile.open(archive, "w") as members:
        members.add(tmp_path / "a.crt", "../../outside.crt")
        members.add(tmp_path / "a.crt", "/etc/absolute.crt")
        link = tarfile.TarInfo("link.crt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        members.addfile(link)
    unpack(archive, to)
    assert {path.name for path in to.iterdir()} == {"outside.crt", "absolute.crt"}
    assert not (tmp_path / "outside.crt").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", os.urandom(2000)])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ConfigurationError, match="is no archive"):
        unpack(tmp_path / "a.tar", tmp_path)


def test_a_damaged_archive_is_told_by_its_name(tmp_path):
    archive, payload = tmp_path / "a.tbz", tmp_path / "payload"
    payload.write_bytes(os.urandom(4 << 20))
    with tarfile.open(archive, "w:bz2") as members:
        members.add(payload, "payload")
    damaged = bytearray(archive.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 4096] = bytes(4096)
    archive.write_bytes(damaged)
    with pytest.raises(ConfigurationError, match=r"a\.tbz is damaged"):
        unpack(archive, tmp_path)


def test_an_operators_token_is_made_once_and_only_its_hash_is_with_the_node(tmp_path):
    told = ("init", tmp_path, "--operator-token", "workstation")
    first = module(*told)
    assert "made the operator's token" in first.stdout
    path, accepted = tmp_path / "operator/operator.token", tmp_path / "workstation/tokens.yaml"
    token = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in accepted.read_text() + first.stdout
    assert str(TokenFiles(accepted).proof(token).identity) == "operator/operator"
    again = module(*told)
    assert (again.returncode, again.stdout, path.read_text()) == (0, "", token)
    # A node that is added gets the same one; one that somebody else made is not overwritten.
    accepted.unlink()
    assert module(*told).returncode == 0
    assert TokenFiles(accepted).proof(token) is not None
    # An empty file is no token; its hash would be that of all who show none.
    accepted.unlink()
    path.write_text("")
    assert module(*told).returncode == 0
    assert TokenFiles(accepted).proof(path.read_text()) is not None
    path.unlink()
    refused = module(*told)
    assert refused.returncode == 2
    assert "remove it first" in refused.stderr
