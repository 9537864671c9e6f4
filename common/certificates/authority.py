"""Certificate authorities, and the certificates that they issue.

Profile: RFC 5280, with identities after SPIFFE's X.509-SVID (one URI as subject alternative name).
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import Iterable, List

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.domain.errors import ConfigurationError
from common.security.identity import Identity

AUTHORITY_DAYS = 3650
"""How long an authority is valid."""
CERTIFICATE_DAYS = 365
"""How long a certificate is valid, unless another time is asked for."""

# A device that has just started may be behind until it has asked a clock in the network.
_BACKDATED = datetime.timedelta(days=1)
_ORGANISATION = "Tandem"
# Of a common name, as RFC 5280 has it. The identity stands elsewhere, and whole.
_MOST_NAME_CHARACTERS = 64


@dataclass(frozen=True)
class Authority:
    """An authority's certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @staticmethod
    def create(name: str, days: int = AUTHORITY_DAYS) -> Authority:
        """Make a new authority, whose certificate it signs itself.

        Args:
            name: which one it is, for people who look at its certificate.
            days: how long it is valid.
        """
        key = new_key()
        subject = _name(name)
        usage = _key_usage(is_authority=True)
        public = key.public_key()
        certificate = (
            _builder(subject, subject, public, _now() + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        return Authority(certificate, key)

    @staticmethod
    def parse(certificate: bytes, key: bytes, where: str) -> Authority:
        """Read an authority from PEM.

        Args:
            certificate: its certificate.
            key: its private key.
            where: that these come from, for errors.

        Raises:
            ConfigurationError: one of them is malformed, or they do not belong together.
        """
        private = parse_key(key, where)
        try:
            parsed = x509.load_pem_x509_certificate(certificate)
        except ValueError as error:
            raise ConfigurationError(f"the certificate of {where} is malformed") from error
        if parsed.public_key() != private.public_key():
            raise ConfigurationError(f"the key of {where} is not that of its certificate")
        return Authority(parsed, private)

    def issue(
        self,
        holder: Identity,
        public_key: ec.EllipticCurvePublicKey,
        hosts: Iterable[str] = (),
        days: int = CERTIFICATE_DAYS,
    ) -> x509.Certificate:
        """Certify that a key is a holder's.

        Args:
            holder: whose identity becomes the subject alternative name.
            public_key: of the holder.
            hosts: names and addresses that callers reach a server by.
            days: how long the certificate is valid; it never outlives the authority.

        Raises:
            ConfigurationError: the authority has expired.
        """
        until = min(_now() + datetime.timedelta(days=days), self.certificate.not_valid_after_utc)
        if self.certificate.not_valid_after_utc <= _now():
            raise ConfigurationError(
                "this authority has expired: make a new one, in a new folder, with "
                "tandem certificates init"
            )
        identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        names = [x509.UniformResourceIdentifier(holder.uri), *map(_general_name, hosts)]
        return (
            _builder(
                _name(f"{holder.role.value} {holder.name}"),
                self.certificate.subject,
                public_key,
                until,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_purposes(holder)), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new private key, on the curve P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PKCS #8, without a password: services start without anybody to type one."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def certificate_to_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def parse_key(pem: bytes, where: str) -> ec.EllipticCurvePrivateKey:
    """Read a private key of an elliptic curve, as all keys of Tandem's own authority are.

    Args:
        pem: without a password.
        where: it comes from, for errors.

    Raises:
        ConfigurationError: it is no such key; the message holds nothing of it.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (TypeError, ValueError):
        # Its cause could quote the key.
        raise ConfigurationError(f"{where} holds no private key without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(f"{where} holds a private key of another kind")
    return key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _BACKDATED)
        .not_valid_after(until)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_MOST_NAME_CHARACTERS]),
        ]
    )


def _key_usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(holder: Identity) -> List[x509.ObjectIdentifier]:
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH] if holder.role.is_peer else []
    return [*purposes, ExtendedKeyUsageOID.CLIENT_AUTH]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
