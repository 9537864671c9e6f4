"""HTTPS for metrics: our certificate, whose callers count, and files that change while we serve."""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import structlog

from common.domain.errors import ConfigurationError

log = structlog.get_logger()

_IDENTITY_SCHEME = "spiffe://"

_Look = Tuple[Tuple[int, int, int], ...]


@dataclass(frozen=True)
class HttpsFiles:
    """What serves HTTPS with certificates on both sides.

    Attributes:
        certificate: of this service, in PEM.
        key: of that certificate.
        authorities: certificates of those who may certify a caller.
        may_read: whether the holder of an identity (a URI, or empty) may read metrics.
    """

    certificate: Path
    key: Path
    authorities: Tuple[Path, ...]
    may_read: Callable[[str], bool]


class HttpsContexts:
    """The context of the next connection; made anew once a file has changed.

    Files that cannot be used, such as a certificate whose key has not come yet, leave the context
    as it is, so that renewing never interrupts.
    """

    def __init__(self, files: HttpsFiles) -> None:
        """Read the files.

        Raises:
            ConfigurationError: they cannot be used.
        """
        self._files = files
        self._lock = threading.Lock()
        self._look = self._look_at_files()
        try:
            self._context = _context(files)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"metrics: {_fault(error, files)}") from error

    def current(self) -> ssl.SSLContext:
        """The context of the files as they are now."""
        with self._lock:
            look = self._look_at_files()
            if look is not None and look != self._look:
                self._look = look
                self._take_up()
            return self._context

    def admits(self, connection: ssl.SSLSocket) -> bool:
        """Whether a caller whose certificate has been verified may read metrics."""
        return self._files.may_read(identity_of(connection.getpeercert()))

    def _take_up(self) -> None:
        try:
            self._context = _context(self._files)
        except (OSError, ssl.SSLError) as error:
            log.warning("certificates stay as they were", reason=_fault(error, self._files))
        else:
            log.info("certificates taken up", what="metrics")

    def _look_at_files(self) -> Optional[_Look]:
        files = (self._files.certificate, self._files.key, *self._files.authorities)
        try:
            return tuple(
                (told.st_mtime_ns, told.st_ino, told.st_size)
                for told in (os.stat(str(file)) for file in files)
            )
        except OSError:
            return None


def identity_of(certificate: Optional[Dict[str, Any]]) -> str:
    """The URI that tells whose a verified certificate is; empty without exactly one.

    Args:
        certificate: as `ssl.SSLSocket.getpeercert` tells it.
    """
    names = (certificate or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI" and value.startswith(_IDENTITY_SCHEME)]
    return str(uris[0]) if len(uris) == 1 else ""


def _context(files: HttpsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed connection would not show its certificate again.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.load_cert_chain(str(files.certificate), str(files.key), _no_password)
    for authority in files.authorities:
        context.load_verify_locations(str(authority))
    return context


def _no_password() -> str:
    # Without this, OpenSSL would ask the terminal for the password of a key that has one.
    raise ssl.SSLError("the key has a password")


def _fault(error: OSError, files: HttpsFiles) -> str:
    told = error.strerror or getattr(error, "reason", "") or str(error)
    return f"{error.filename or files.certificate} cannot be used for HTTPS: {told}"
