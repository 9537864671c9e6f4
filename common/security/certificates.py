"""Certificates, read and compared; the only module of the services that parses X.509."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Iterable, List, Optional, Sequence

from common.domain.errors import InvalidInputError
from common.security.identity import Identity

with warnings.catch_warnings():
    # On Python 3.8 it says that the next release will not run there any more.
    warnings.simplefilter("ignore")
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

_BEGINS = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----")
_NOT_READABLE = (ValueError, TypeError, UnsupportedAlgorithm)


@dataclass(frozen=True)
class Certificate:
    """One certificate.

    Attributes:
        identity: that it proves; None if it names none, or several.
        server_names: its DNS names.
        fingerprint: sha256 of its DER form, in lower-case hexadecimal digits.
        expires_at_seconds: when it ends, in seconds since 1970.
        parsed: as `cryptography` has it.
    """

    identity: Optional[Identity]
    server_names: Sequence[str]
    fingerprint: str
    expires_at_seconds: float
    parsed: x509.Certificate

    def is_issued_by(self, authorities: Sequence[Certificate]) -> bool:
        """Whether one of these has signed it."""
        return any(_has_signed(each.parsed, self.parsed) for each in authorities)


def read_certificates(pem: bytes) -> List[Certificate]:
    """The certificates of a PEM file, in its order.

    Raises:
        InvalidInputError: there is none, or one is malformed or cut off.
    """
    try:
        found = [certificate_of(each) for each in x509.load_pem_x509_certificates(pem)]
    except _NOT_READABLE as error:
        raise InvalidInputError("it holds no certificate in PEM form") from error
    # Of a file that is being written, the first ones would pass for all.
    if len(found) < len(_BEGINS.findall(pem)):
        raise InvalidInputError("a certificate in it is cut off")
    return found


def pem_of(certificates: Iterable[Certificate]) -> bytes:
    """Certificates in PEM form, and nothing else.

    Files hold comments in any language and marks of editors, which readers of PEM take differently.
    """
    encoding = serialization.Encoding.PEM
    return b"".join(each.parsed.public_bytes(encoding) for each in certificates)


def check_key(certificate: Certificate, key_pem: bytes) -> None:
    """Check that a private key belongs to a certificate.

    Raises:
        InvalidInputError: it belongs to another one, has a password, or is no key.
    """
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except _NOT_READABLE as error:
        raise InvalidInputError("it holds no private key in PEM form without a password") from error
    if _public_bytes(key.public_key()) != _public_bytes(certificate.parsed.public_key()):
        raise InvalidInputError("it does not belong to the certificate")


def certificate_of(parsed: x509.Certificate) -> Certificate:
    """What counts of a certificate."""
    return Certificate(
        identity=_identity(parsed),
        server_names=tuple(_names(parsed, x509.DNSName)),
        fingerprint=hashlib.sha256(parsed.public_bytes(serialization.Encoding.DER)).hexdigest(),
        expires_at_seconds=_expiry(parsed).timestamp(),
        parsed=parsed,
    )


def _identity(parsed: x509.Certificate) -> Optional[Identity]:
    """The one identity that a certificate names.

    Several URIs are none: which of them it is would be for each reader to guess.
    """
    uris = _names(parsed, x509.UniformResourceIdentifier)
    try:
        return Identity.parse(uris[0]) if len(uris) == 1 and "://" in uris[0] else None
    except InvalidInputError:
        return None


def _names(parsed: x509.Certificate, kind: Any) -> List[str]:
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, *_NOT_READABLE):
        return []
    return [str(name) for name in names.value.get_values_for_type(kind)]


def _expiry(parsed: x509.Certificate) -> datetime:
    # Releases before 42 have it without a time zone only.
    aware = getattr(parsed, "not_valid_after_utc", None)
    return aware or parsed.not_valid_after.replace(tzinfo=timezone.utc)


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, *_NOT_READABLE):
        return False
    return True


def _public_bytes(key: Any) -> bytes:
    encoding = serialization.Encoding.DER
    data: bytes = key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return data
