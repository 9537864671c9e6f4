"""Settings of TLS, identities and tokens, which every service has."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, CliImplicitFlag


class SecuritySettings(BaseSettings):
    """Who may use a service, and how it proves who it is.

    All files are read again when they change.
    """

    tls_certificate: Optional[Path] = Field(
        None,
        description="PEM file with this service's certificate, which names its identity; turns TLS "
        "on for its server and for all that it connects to",
    )
    tls_key: Optional[Path] = Field(None, description="PEM file with the certificate's private key")
    tls_peers_ca: Optional[Path] = Field(
        None,
        description="PEM file with the authorities that issue the certificates of services, the "
        "intermediate ones included",
    )
    tls_clients_ca: Optional[Path] = Field(
        None,
        description="the same of clients, operators and monitors; tls_peers_ca if left out",
    )
    tls_revoked: Optional[Path] = Field(
        None,
        description="file of what is refused although its certificate or token is valid: one "
        "sha256:FINGERPRINT or ROLE/NAME a line",
    )
    tokens: Optional[Path] = Field(
        None, description="YAML file with the hashed tokens of callers without a certificate"
    )
    jwt_keys: Optional[Path] = Field(
        None,
        description="PEM file with the public keys of those who sign tokens (JWT): Ed25519, RSA or "
        "P-256",
    )
    jwt_audience: str = Field(
        "tandem", min_length=1, description="audience that a signed token has to be for"
    )
    token_port: Optional[int] = Field(
        None,
        ge=0,
        le=65535,
        description="gRPC port for callers with a token instead of a certificate; 0 picks a free "
        "one. Without, there is none",
    )
    insecure: CliImplicitFlag[bool] = Field(
        False, description="whether to serve other machines without TLS: anybody may do anything"
    )

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted, and callers known."""
        return self.tls_certificate is not None

    @model_validator(mode="after")
    def _check_security(self) -> SecuritySettings:
        needed = (self.tls_certificate, self.tls_key, self.tls_peers_ca)
        further = (self.tls_clients_ca, self.tls_revoked, self.tokens, self.jwt_keys)
        asked = any(each is not None for each in (*needed, *further, self.token_port))
        if asked and None in needed:
            raise ValueError("TLS needs tls_certificate, tls_key and tls_peers_ca together")
        if self.token_port is not None and self.tokens is None and self.jwt_keys is None:
            raise ValueError("token_port needs tokens or jwt_keys")
        if self.insecure and self.has_tls:
            raise ValueError("insecure and TLS exclude each other")
        return self
