"""Certificates are what RFC 5280 and SPIFFE ask for, by two readers that are not ours."""

import datetime
import ipaddress
import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from common.certificates.authority import Authority, new_key
from common.certificates.folder import AuthorityFolder
from common.certificates.reading import report_on
from common.certificates.roles import checked_host
from common.domain.errors import ConfigurationError, InvalidInputError
from common.security.identity import Identity, Role

HOSTS = {"edge": ["tx2.example", "fd00::5", "192.168.1.20"], "workstation": []}
NODE_ROLES = ("backbone", "transformer", "gateway", "orchestrator")
FILES = [
    *((node, role) for node in HOSTS for role in NODE_ROLES),
    ("client", "client"),
    ("operator", "operator"),
    ("prometheus", "monitor"),
]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def key(path):
    return serialization.load_pem_private_key(path.read_bytes(), password=None)


def extension(parsed, kind):
    return parsed.extensions.get_extension_for_class(kind)


def test_a_pair_of_machines_gets_these_files_and_no_others(made):
    there = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    keys = {f"{name}/{role}.key" for name, role in FILES}
    copies = {f"{name}/peers-ca.crt" for name, _ in FILES} | {
        f"{name}/clients-ca.crt" for name in ("edge", "workstation")
    }
    authority = {
        f"authority/{name}.{kind}" for name in ("peers-ca", "clients-ca") for kind in ("crt", "key")
    }
    assert there == keys | {each[:-3] + "crt" for each in keys} | copies | authority


def test_nobody_else_may_read_a_key_or_look_into_a_folder(made):
    assert {path.stat().st_mode & 0o777 for path in made.rglob("*.key")} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o700}


@pytest.mark.parametrize(("name", "role"), FILES)
def test_a_certificate_tells_who_holds_it_and_for_what(made, name, role):
    parsed = certificate(made / name / f"{role}.crt")
    names = extension(parsed, x509.SubjectAlternativeName).value
    is_server = role in ("backbone", "transformer", "gateway", "orchestrator")
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"spiffe://tandem/{role}/{name}"
    ]
    hosts = set(names.get_values_for_type(x509.DNSName))
    hosts |= set(map(str, names.get_values_for_type(x509.IPAddress)))
    usual = {
        f"{name}.{role}.tandem.internal",
        "localhost",
        "127.0.0.1",
        "::1",
        role,
        f"{name}-{role}",
        name,
        f"{name}.local",
    }
    assert hosts == ((usual | set(HOSTS[name])) if is_server else set())
    purposes = set(extension(parsed, x509.ExtendedKeyUsage).value)
    server = {ExtendedKeyUsageOID.SERVER_AUTH} if is_server else set()
    assert purposes == server | {ExtendedKeyUsageOID.CLIENT_AUTH}
    constraints, usage = extension(parsed, x509.BasicConstraints), extension(parsed, x509.KeyUsage)
    assert (constraints.value.ca, constraints.critical) == (False, True)
    assert (usage.value.digital_signature, usage.value.key_cert_sign) == (True, False)
    assert isinstance(parsed.public_key().curve, ec.SECP256R1)
    assert key(made / name / f"{role}.key").public_key() == parsed.public_key()
    left = parsed.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(364) < left <= datetime.timedelta(365)


@pytest.mark.parametrize(("name", "role"), FILES)
def test_one_authority_certifies_it_and_the_other_does_not(made, name, role):
    parsed = certificate(made / name / f"{role}.crt")

    def is_certified_by(authority):
        store = Store([certificate(made / "authority" / f"{authority}.crt")])
        try:
            PolicyBuilder().store(store).build_client_verifier().verify(parsed, [])
        except VerificationError:
            return False
        return True

    is_client = role in ("client", "operator", "monitor")
    assert is_certified_by("clients-ca") == is_client
    assert is_certified_by("peers-ca") != is_client


def test_a_server_is_known_by_each_of_its_hosts_and_by_no_other(made):
    parsed = certificate(made / "edge" / "transformer.crt")
    store = Store([certificate(made / "edge" / "peers-ca.crt")])

    def verify(host):
        PolicyBuilder().store(store).build_server_verifier(host).verify(parsed, [])

    for name in ("localhost", "edge", "edge.local", "edge-transformer", "tx2.example"):
        verify(x509.DNSName(name))
    for address in ("127.0.0.1", "::1", "fd00::5", "192.168.1.20"):
        verify(x509.IPAddress(ipaddress.ip_address(address)))
    for other in ("workstation", "edge-backbone", "example"):
        with pytest.raises(VerificationError):
            verify(x509.DNSName(other))


@needs_openssl
@pytest.mark.parametrize(("name", "role"), FILES)
def test_openssl_accepts_it(made, openssl, name, role):
    file = made / name / f"{role}.crt"
    authority = "clients-ca" if role in ("client", "operator", "monitor") else "peers-ca"
    ca = made / "authority" / f"{authority}.crt"
    is_server = role in ("backbone", "transformer", "gateway", "orchestrator")
    for purpose in ("sslserver", "sslclient") if is_server else ("sslclient",):
        told = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", ca, file)
        assert told == f"{file}: OK\n"
    assert f"URI:spiffe://tandem/{role}/{name}" in openssl("x509", "-in", file, "-noout", "-text")
    assert openssl("pkey", "-in", file.with_suffix(".key"), "-pubout") == openssl(
        "x509", "-in", file, "-noout", "-pubkey"
    )


def test_a_certificate_never_outlives_its_authority():
    short = Authority.create("short", days=3)
    issued = short.issue(Identity.parse("client/a"), new_key().public_key(), days=365)
    assert issued.not_valid_after_utc == short.certificate.not_valid_after_utc
    expired = Authority.create("expired", days=0)
    with pytest.raises(ConfigurationError, match="expired"):
        expired.issue(Identity.parse("client/a"), new_key().public_key())


@pytest.mark.parametrize("name", [".", "..", "../edge", "a/b", "a b", "-a", "a-", "ä", "a" * 64])
def test_a_name_that_is_no_folder_is_refused(tmp_path, name):
    folder = AuthorityFolder.create(tmp_path / "made")
    with pytest.raises(InvalidInputError, match="cannot be a holder's name"):
        folder.issue(Identity(Role.CLIENT, name))
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["authority"]


@pytest.mark.parametrize("role", Role)
def test_the_longest_name_is_taken(tmp_path, role):
    folder = AuthorityFolder.create(tmp_path / "made")
    issued = folder.issue(Identity(role, "a" * 63))
    report = report_on(issued.certificate)
    assert (report.identity, report.warnings) == (issued.holder.uri, ())


@pytest.mark.parametrize("host", ["tx2:50051", "a b", "", "-a", "a..b", "x" * 64, "*", "a/b"])
def test_what_is_no_host_is_refused(host):
    with pytest.raises(InvalidInputError, match="no host"):
        checked_host(host)


def test_the_authorities_own_folder_is_nobodys(tmp_path):
    folder = AuthorityFolder.create(tmp_path)
    with pytest.raises(InvalidInputError, match="own folder"):
        folder.issue(Identity.parse("client/authority"))
