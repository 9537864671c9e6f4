"""From settings to what a service is secured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from common.domain.errors import ConfigurationError
from common.security.identity import Identity, Role
from common.security.tls import TlsFiles, TlsPaths
from common.security.tokens import TokenFiles
from common.server.authorization import Authorization
from common.server.metrics_access import require_https
from common.server.security_settings import SecuritySettings


@dataclass(frozen=True)
class Security:
    """What a service with TLS is secured by.

    Attributes:
        own: the service's identity.
        tls: its certificates, and whom it trusts.
        tokens: of callers without a certificate; None: there are none.
        authorization: lets through what the callers may call.
    """

    own: Identity
    tls: TlsFiles
    tokens: Optional[TokenFiles]
    authorization: Authorization


def security_of(
    settings: SecuritySettings, role: Role, node: Optional[str] = None
) -> Optional[Security]:
    """Read what secures a service; None without TLS.

    Args:
        settings: of the service.
        role: that its certificate has to name.
        node: likewise, where it has one.

    Raises:
        ConfigurationError: a file cannot be read or makes no sense, or the certificate is of
            another service.
    """
    if settings.tls_certificate is None or settings.tls_peers_ca is None:
        return None
    tls = TlsFiles(
        TlsPaths(
            certificate=settings.tls_certificate,
            key=settings.tls_key,
            peers_ca=settings.tls_peers_ca,
            clients_ca=settings.tls_clients_ca,
            revoked=settings.tls_revoked,
        ),
        require_https,
    )
    own = _own_identity(settings, tls, role, node)
    tokens = None
    if settings.tokens is not None or settings.jwt_keys is not None:
        tokens = TokenFiles(
            settings.tokens,
            settings.jwt_keys,
            settings.jwt_audience,
            revoked=lambda: tls.material.revoked,
        )
    return Security(own, tls, tokens, Authorization(own, tls, tokens))


def _own_identity(
    settings: SecuritySettings, tls: TlsFiles, role: Role, node: Optional[str]
) -> Identity:
    certificate = tls.material.certificate
    identity = None if certificate is None else certificate.identity
    wanted = Identity(role, node) if node else None
    if identity is None or identity.role is not role or identity != (wanted or identity):
        named = "no identity" if identity is None else identity.uri
        needed = wanted.uri if wanted else f"spiffe://tandem/{role.value}/NAME"
        raise ConfigurationError(
            f"{settings.tls_certificate} names {named}; this service needs {needed} as its one "
            "URI subject alternative name"
        )
    if certificate is not None and identity.server_name not in certificate.server_names:
        raise ConfigurationError(
            f"{settings.tls_certificate} lacks the DNS subject alternative name "
            f"{identity.server_name}, by which callers know that it is {identity}"
        )
    return identity
