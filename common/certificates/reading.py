"""What a certificate says: whose it is, for which hosts, how long; and what is wrong with it."""

from __future__ import annotations

import datetime
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet, Iterator, List, Optional, Tuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from common.domain.errors import InvalidInputError
from common.security.certificates import certificate_of
from common.security.expiry import EXPIRING_DAYS
from common.security.identity import IDENTITY_FORM, Identity

SUFFIXES = (".crt", ".pem", ".cer")

# Of any certificate or chain; more is no certificate.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class CertificateReport:
    """What a certificate's file says.

    Attributes:
        path: of the file.
        subject: its common name, or all of its subject where there is none.
        identity: the URI that tells the holder's role and name; empty where services know none.
        is_authority: whether it may sign others.
        not_before: when it becomes valid.
        not_after: when it expires.
        hosts: names and addresses that it is valid for.
        fingerprint: SHA-256 of the certificate, in hexadecimal.
        serial: its serial number, in hexadecimal.
        warnings: what is wrong, in words.
    """

    path: Path
    subject: str
    identity: str
    is_authority: bool
    not_before: datetime.datetime
    not_after: datetime.datetime
    hosts: Tuple[str, ...]
    fingerprint: str
    serial: str
    warnings: Tuple[str, ...]


def report_on(path: Path, now: Optional[datetime.datetime] = None) -> CertificateReport:
    """Read a certificate's file, and look whether the key beside it is its own.

    Args:
        path: of the file in PEM; of a chain the first certificate counts.
        now: the time to judge by; the present if left out.

    Raises:
        InvalidInputError: it holds no certificate.
        OSError: it cannot be read.
    """
    certificate = _first_certificate(path)
    identity = certificate_of(certificate).identity
    now = now or datetime.datetime.now(datetime.timezone.utc)
    return CertificateReport(
        path=path,
        subject=_subject(certificate),
        identity="" if identity is None else identity.uri,
        is_authority=_is_authority(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        hosts=tuple(hosts_of(certificate)),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        serial=f"{certificate.serial_number:x}",
        warnings=(
            *_validity_warnings(certificate, now),
            *([] if _is_authority(certificate) else _name_warnings(certificate, identity)),
            *_key_warnings(path, certificate),
        ),
    )


def certificate_files(path: Path) -> List[Path]:
    """The file itself, or all certificates of a folder and those below it, in order.

    Raises:
        InvalidInputError: there are none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
    if not found:
        raise InvalidInputError(f"{path} holds no certificate (*{', *'.join(SUFFIXES)})")
    return found


def hosts_of(certificate: x509.Certificate) -> List[str]:
    """The names and addresses that it is valid for."""
    names = _alternative_names(certificate)
    if names is None:
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _first_certificate(path: Path) -> x509.Certificate:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if b"PRIVATE KEY-----" in content and b"BEGIN CERTIFICATE" not in content:
        raise InvalidInputError(f"{path} is a private key: name the certificate's file")
    try:
        return x509.load_pem_x509_certificate(content[:_MOST_BYTES])
    except ValueError:
        raise InvalidInputError(f"{path} holds no certificate in PEM") from None


def _alternative_names(
    certificate: x509.Certificate,
) -> Optional[x509.SubjectAlternativeName]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return None
    return extension.value


def _subject(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _validity_warnings(certificate: x509.Certificate, now: datetime.datetime) -> Iterator[str]:
    left = certificate.not_valid_after_utc - now
    if left <= datetime.timedelta(0):
        yield f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    elif left < datetime.timedelta(EXPIRING_DAYS):
        yield f"expires in {left.days} days"
    if certificate.not_valid_before_utc > now:
        yield f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"


def _name_warnings(certificate: x509.Certificate, identity: Optional[Identity]) -> Iterator[str]:
    """What services would refuse it for, or could not be called by."""
    if identity is None:
        names = _alternative_names(certificate)
        uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
        yield (
            "names no identity: services need one URI as subject alternative name, "
            f"{IDENTITY_FORM}, and find {', '.join(uris) or 'none'}"
        )
        return
    if identity.role.is_peer and identity.server_name not in hosts_of(certificate):
        yield f"lacks the DNS name {identity.server_name}, by which services know each other"
    needed = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
    purposes = _purposes(certificate)
    for side, purpose in needed.items():
        if purposes and purpose not in purposes and (side == "client" or identity.role.is_peer):
            yield f"is not for {side} authentication, by its extended key usage"


def _purposes(certificate: x509.Certificate) -> FrozenSet[x509.ObjectIdentifier]:
    """What it may be used for; empty for everything."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(usage.value)


def _key_warnings(path: Path, certificate: x509.Certificate) -> Iterator[str]:
    """Of the key that stands beside a certificate under the same name, if there is one."""
    key = path.with_suffix(".key")
    try:
        mode = key.stat().st_mode
        content = key.read_bytes()
    except OSError:
        return
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        yield f"others may read its key: chmod 600 {key}"
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except (TypeError, ValueError):
        yield f"{key} holds no private key without a password"
        return
    if private.public_key() != certificate.public_key():
        yield f"{key} is not its key"
