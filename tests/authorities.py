"""A certificate authority of tests: issues what is right, and what is wrong on purpose."""

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from common.security.certificates import x509
from common.security.identity import Identity

from cryptography.hazmat.primitives import hashes, serialization  # isort: skip
from cryptography.hazmat.primitives.asymmetric import ec  # isort: skip
from cryptography.x509.oid import NameOID  # isort: skip

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


class Pair(NamedTuple):
    """A certificate and its key, in PEM form and as files."""

    certificate_pem: bytes
    key_pem: bytes
    certificate: Path
    key: Path

    def write(self, folder: Path, name: str) -> "Pair":
        """The same in other files, each of which is replaced at once."""
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        replace(key, self.key_pem)
        replace(certificate, self.certificate_pem)
        return self._replace(certificate=certificate, key=key)


def replace(path: Path, data: bytes) -> None:
    """Write a file so that readers find either the old or the new content."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    os.replace(str(part), str(path))


class Authority:
    """Issues certificates.

    Attributes:
        path: the file with its own certificate.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = (
            _builder(self._name, self._name, self._key, NOW - HOUR, NOW + HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        self.path = folder / f"{name}.ca"
        self.path.write_bytes(self.pem)

    def issue(
        self,
        identity: Optional[str],
        *,
        file_name: Optional[str] = None,
        begins: datetime = NOW - HOUR,
        ends: datetime = NOW + HOUR,
        names: Sequence[str] = (),
        uris: Sequence[str] = (),
    ) -> Pair:
        """Issue a certificate for an identity such as `client/camera`, on 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        found = [] if identity is None else [Identity.parse(identity)]
        alternatives = [x509.UniformResourceIdentifier(each.uri) for each in found]
        alternatives += [x509.UniformResourceIdentifier(each) for each in uris]
        alternatives += [x509.DNSName(each.server_name) for each in found]
        alternatives += [x509.DNSName(each) for each in (*names, "localhost")]
        alternatives += [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            _builder(_name("tests"), self._name, key, begins, ends)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        name = file_name or (identity or "nobody").replace("/", ".")
        pair = Pair(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            Path(),
            Path(),
        )
        return pair.write(self.folder, name)


def _builder(subject, issuer, key, begins, ends):
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Realm:
    """What secures the services of one test: their authorities, and the files of all the rest.

    Attributes:
        peers: issues the certificates of services.
        clients: issues those of clients, operators and monitors.
        revoked: the file of what is refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.peers = Authority(folder, "peers")
        self.clients = Authority(folder, "clients")
        self.revoked = folder / "revoked.txt"
        self.revoked.write_text("")

    def arguments(self, identity: str) -> List[str]:
        """The arguments of a service; its certificate is issued if it has none yet."""
        pair = self.peers.issue(identity)
        return [
            *("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)),
            *("--tls-peers-ca", str(self.peers.path), "--tls-clients-ca", str(self.clients.path)),
            *("--tls-revoked", str(self.revoked)),
        ]
