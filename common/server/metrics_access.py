"""HTTPS for metrics: the service's certificate, and callers that prove to be monitors."""

from __future__ import annotations

import os
import ssl
import threading
import time
from typing import Optional, Tuple

from common.domain.errors import InvalidInputError
from common.security.identity import Role
from common.security.tls import TlsFiles, TlsMaterial
from common.security.tokens import TokenFiles, token_of_header


class MetricsAccess:
    """Who may read metrics, by the certificates and tokens that the files hold at that time."""

    def __init__(self, tls: TlsFiles, tokens: Optional[TokenFiles] = None) -> None:
        """Read the files.

        Args:
            tls: the service's certificate, and whom it trusts; see `require_https`.
            tokens: of callers without a certificate; None: they are turned away in the handshake.
        """
        self._tls = tls
        self._tokens = tokens
        self._lock = threading.Lock()
        self._material = tls.material
        self._context = self._made_of(self._material)

    def context(self) -> ssl.SSLContext:
        """What the next connection is encrypted by."""
        material = self._tls.material
        with self._lock:
            if material is not self._material:
                # Python's TLS can use it, or it would not have been taken up.
                self._context, self._material = self._made_of(material), material
            return self._context

    def admits(self, certificate_der: Optional[bytes], authorization: str) -> bool:
        """Whether a caller may read metrics.

        Args:
            certificate_der: that the handshake has verified; None without one.
            authorization: the header of this name; empty without one.
        """
        if certificate_der:
            pem = ssl.DER_cert_to_PEM_cert(certificate_der).encode()
            proof = self._tls.material.proof(pem)
        elif self._tokens is not None:
            proof = self._tokens.proof(token_of_header(authorization))
        else:
            proof = None
        if proof is None or proof.expires_at_seconds <= time.time():
            return False
        return proof.identity.role is Role.MONITOR

    def _made_of(self, material: TlsMaterial) -> ssl.SSLContext:
        has_tokens = self._tokens is not None
        context = server_context(material, ssl.CERT_OPTIONAL if has_tokens else ssl.CERT_REQUIRED)
        # A resumed connection would not show its certificate again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        return context


def require_https(material: TlsMaterial) -> None:
    """Make sure that Python's TLS can serve with what gRPC's can: it refuses weak keys, for one.

    Raises:
        InvalidInputError: it cannot.
    """
    try:
        server_context(material, ssl.CERT_REQUIRED)
    except OSError as error:
        raise InvalidInputError(f"the certificate cannot serve HTTPS: {error}") from error


def server_context(material: TlsMaterial, verify_mode: ssl.VerifyMode) -> ssl.SSLContext:
    """What Python's own TLS serves with a service's certificate.

    Args:
        material: what its files hold.
        verify_mode: whether callers have to show a certificate.

    Raises:
        OSError: Python's TLS cannot use them; `ssl.SSLError` is one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = verify_mode
    context.load_verify_locations(cadata=material.roots_pem.decode("ascii"))
    if material.pair is not None:
        _load_pair(context, material.pair)
    return context


def _load_pair(context: ssl.SSLContext, pair: Tuple[bytes, bytes]) -> None:
    """Load a key and its certificate, which Python reads from a file only: from one in memory."""
    descriptor = os.memfd_create("pair")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(b"\n".join(pair))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
