"""How a client of a system with TLS knows the server, and proves who it is itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from common.domain.errors import ConfigurationError, InvalidInputError
from common.security.tls import TlsFiles, TlsPaths
from common.security.tokens import AUTHORIZATION


@dataclass(frozen=True)
class Credentials:
    """Whom a client trusts, and its certificate or its token.

    The files are read again when they change.

    Attributes:
        ca: PEM file of the authorities that issue the certificates of servers.
        certificate: PEM file with the client's certificate.
        key: PEM file with its private key.
        token: in place of certificate and key; for the server's token port.
        server_name: a name that the server's certificate has to hold; the host of its address if
            left out.
    """

    ca: Path | str
    certificate: Path | str | None = None
    key: Path | str | None = None
    token: str | None = field(default=None, repr=False)
    server_name: str = ""

    def __post_init__(self) -> None:
        """Check what is given.

        Raises:
            InvalidInputError: a certificate comes without its key or with a token, or neither
                certificate nor token is given, or the token has characters that no token has.
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidInputError("a certificate and its key have to be given together")
        if (self.certificate is None) == (self.token is None):
            raise InvalidInputError("give either a certificate and its key, or a token")
        # Not repeated: it may be most of a secret.
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise InvalidInputError("the token has characters that no token has")

    @classmethod
    def from_environment(
        cls,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        token: str | None = None,
        server_name: str | None = None,
    ) -> Credentials | None:
        """What is given here, and for the rest what the environment says; None for no TLS.

        The variables are `TANDEM_TLS_CA`, `TANDEM_TLS_CERTIFICATE`, `TANDEM_TLS_KEY`,
        `TANDEM_TOKEN` and `TANDEM_TLS_SERVER_NAME`.

        Raises:
            InvalidInputError: what is given does not fit together.
        """
        environment = os.environ
        ca = ca or _path(environment.get("TANDEM_TLS_CA"))
        if token is None and certificate is None:
            certificate = _path(environment.get("TANDEM_TLS_CERTIFICATE"))
            key = key or _path(environment.get("TANDEM_TLS_KEY"))
        if certificate is None and key is None:
            token = token or environment.get("TANDEM_TOKEN") or None
        if ca is None:
            if certificate is None and token is None:
                return None
            raise InvalidInputError(
                "a certificate or a token is for TLS, which needs the authority of the server: "
                "--tls-ca FILE"
            )
        name = server_name or environment.get("TANDEM_TLS_SERVER_NAME", "")
        return cls(ca, certificate, key, token, name)

    def load(self) -> TlsFiles:
        """Read the files.

        Raises:
            ConfigurationError: one cannot be read, or they do not fit together.
        """
        paths = (self.ca, self.certificate, self.key)
        ca, certificate, key = (None if path is None else Path(path) for path in paths)
        if ca is None:
            raise ConfigurationError("TLS needs the authority of the server")
        return TlsFiles(TlsPaths(peers_ca=ca, certificate=certificate, key=key))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """What each call takes along."""
        return None if self.token is None else ((AUTHORIZATION, f"Bearer {self.token}"),)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
