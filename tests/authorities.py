"""A certificate authority of tests: issues what is right, and what is wrong on purpose."""

import ipaddress
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import grpc
import yaml

from common.security.certificates import x509
from common.security.identity import Identity
from common.security.tokens import new_token, token_digest

from cryptography.hazmat.primitives import hashes, serialization  # isort: skip
from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # isort: skip
from cryptography.x509.oid import NameOID  # isort: skip

NOW = datetime.now(timezone.utc)
HOUR = timedelta(hours=1)


class Pair(NamedTuple):
    """A certificate and its key, in PEM form and as files."""

    certificate_pem: bytes
    key_pem: bytes
    certificate: Path = Path()
    key: Path = Path()

    def write(self, folder: Path, name: str) -> "Pair":
        """The same in files of this name, each of which is replaced at once."""
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
        certificate = (
            _builder(self._name, self._name, self._key, NOW - HOUR, NOW + HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.path = folder / f"{name}.ca"
        self.path.write_bytes(self.pem)

    def issue(
        self,
        identity: Optional[str],
        *,
        file_name: Optional[str] = None,
        begins: datetime = NOW - HOUR,
        ends: datetime = NOW + HOUR,
        uris: Sequence[str] = (),
        key: Any = None,
        purposes: Sequence[x509.ObjectIdentifier] = (),
    ) -> Pair:
        """Issue a certificate for an identity such as `client/camera`, on 127.0.0.1."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name("tests"), self._name, key, begins, ends)
        builder = builder.add_extension(_alternative_names(identity, uris), critical=False)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        name = file_name or (identity or "nobody").replace("/", ".")
        return _pair(certificate, key).write(self.folder, name)


def self_signed(identity: str) -> Pair:
    """A certificate that nobody but its holder has signed; in no file."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name("tests"), _name("tests"), key, NOW - HOUR, NOW + HOUR)
        .add_extension(_alternative_names(identity, ()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


class Realm:
    """What secures the services of one test: their authorities, and the files of all the rest.

    Attributes:
        peers: issues the certificates of services.
        clients: issues those of clients, operators and monitors.
        revoked: the file of what is refused.
        tokens: the file of hashed tokens.
        signing_key: signs tokens.
        jwt_keys: the file with its public key.
        quotas: the file of quotas.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.peers = Authority(folder, "peers")
        self.clients = Authority(folder, "clients")
        self.revoked = folder / "revoked.txt"
        self.revoked.write_text("")
        self.tokens = folder / "tokens.yaml"
        self.tokens.write_text("tokens: []\n")
        self.signing_key = ed25519.Ed25519PrivateKey.generate()
        self.jwt_keys = folder / "signers.pem"
        self.jwt_keys.write_bytes(public_pem(self.signing_key))
        self.quotas = folder / "quotas.yaml"
        self.quotas.write_text("quotas: {}\n")
        self._tokens: List[Dict[str, Any]] = []

    def issue(self, identity: str, **more: Any) -> Pair:
        """A certificate by the authority that an identity's role needs."""
        is_peer = Identity.parse(identity).role.is_peer
        return (self.peers if is_peer else self.clients).issue(identity, **more)

    def arguments(self, identity: str) -> List[str]:
        """The arguments of a service, whose certificate is issued anew."""
        pair = self.issue(identity)
        return [
            *("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)),
            *("--tls-peers-ca", str(self.peers.path), "--tls-clients-ca", str(self.clients.path)),
            *("--tls-revoked", str(self.revoked)),
        ]

    def add_token(self, identity: str, **more: Any) -> str:
        """A new token, which the file has from now on."""
        token = new_token()
        self._tokens.append({"identity": identity, "sha256": token_digest(token), **more})
        self._write_tokens()
        return token

    def remove_token(self, token: str) -> None:
        """The file does not have it any more."""
        digest = token_digest(token)
        self._tokens = [entry for entry in self._tokens if entry["sha256"] != digest]
        self._write_tokens()

    def _write_tokens(self) -> None:
        replace(self.tokens, yaml.safe_dump({"tokens": self._tokens}).encode())

    def revoke(self, *entries: str) -> None:
        """Let the file of what is refused hold these, and nothing else."""
        replace(self.revoked, "\n".join(entries).encode())

    def credentials(self, pair: Optional[Pair] = None) -> grpc.ChannelCredentials:
        """Of a channel to one of the services."""
        own = (None, None) if pair is None else (pair.key_pem, pair.certificate_pem)
        return grpc.ssl_channel_credentials(self.peers.pem, *own)


def public_pem(key: Any) -> bytes:
    """The public key of a private one."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _alternative_names(identity: Optional[str], uris: Sequence[str]) -> x509.SubjectAlternativeName:
    found = [] if identity is None else [Identity.parse(identity)]
    every_uri = (*(each.uri for each in found), *uris)
    return x509.SubjectAlternativeName(
        [
            *(x509.UniformResourceIdentifier(uri) for uri in every_uri),
            *(x509.DNSName(each.server_name) for each in found),
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
    )


def _pair(certificate: x509.Certificate, key: Any) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


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
