"""How a client of a system with TLS knows the server, and proves who it is itself."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from common.domain.errors import (
    AccessDeniedError,
    ConfigurationError,
    InvalidInputError,
    TandemError,
    UnavailableError,
)
from common.security.expiry import expiry_warnings
from common.security.tls import TlsFiles, TlsPaths
from common.security.tokens import AUTHORIZATION
from common.wire.errors import ConnectionFault


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

    def warnings(self) -> tuple[str, ...]:
        """What to renew soon; a sentence each."""
        certificate = self.load().material.certificate
        own = [] if certificate is None else [certificate]
        return tuple(expiry_warnings("your certificate", own, time.time()))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """What each call takes along."""
        return None if self.token is None else ((AUTHORIZATION, f"Bearer {self.token}"),)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def refusal_of(
    code: grpc.StatusCode,
    fault: ConnectionFault | None,
    address: str,
    credentials: Credentials | None,
) -> TandemError | None:
    """What to tell of a call that failed for want of TLS, trust or rights; None: of any other.

    Args:
        code: that the call ended with.
        fault: what is wrong with its connection.
        address: of the server.
        credentials: that it was made with.
    """
    if code is grpc.StatusCode.UNAUTHENTICATED:
        proof = "token" if credentials is not None and credentials.token else "certificate"
        return AccessDeniedError(f"the server at {address} does not accept this {proof}")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return AccessDeniedError(f"the server at {address} does not let you do this")
    if fault is ConnectionFault.CLOSED and credentials is None:
        return UnavailableError(
            f"no Tandem orchestrator answers at {address}, or it wants TLS (--tls-ca)"
        )
    if fault is ConnectionFault.CLOSED:
        return AccessDeniedError(f"the server at {address} {_why_closed(credentials)}")
    if fault is ConnectionFault.NO_TLS:
        return UnavailableError(f"the server at {address} does not speak TLS: leave --tls-ca out")
    if fault is ConnectionFault.UNTRUSTED:
        return UnavailableError(
            f"the certificate of the server at {address} is of an authority that is not trusted "
            "here: give the right one by --tls-ca"
        )
    if fault is ConnectionFault.EXPIRED:
        return UnavailableError(
            f"the certificate of the server at {address} has expired or is not valid yet"
        )
    if fault is ConnectionFault.WRONG_NAME:
        return UnavailableError(
            f"the certificate of the server at {address} is for another name: connect by one that "
            "it holds, or give one by --tls-server-name"
        )
    return None


def _why_closed(credentials: Credentials | None) -> str:
    if credentials is not None and credentials.token is not None:
        return "closes the connection: it wants a certificate there, not a token"
    return (
        "closes the connection: it does not accept this certificate, which has expired or is of an "
        "authority that is not trusted there"
    )
