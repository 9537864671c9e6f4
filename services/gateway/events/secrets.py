"""Secrets for receivers of events: read from files, and shown nowhere."""

from __future__ import annotations

import ssl
from pathlib import Path

from common.domain.errors import ConfigurationError

_MOST_BYTES = 4096


def read_secret(path: Path, what: str) -> str:
    """A secret of one line, without the end of the line.

    Args:
        path: of its file.
        what: it is, for messages.

    Raises:
        ConfigurationError: it cannot be read, or is empty, too long or several lines.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigurationError(f"{what} cannot be read: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{what} in {path} is no text in UTF-8") from None
    if not text or len(text) > _MOST_BYTES or not text.isprintable():
        raise ConfigurationError(f"{what} in {path} is not one line of at most {_MOST_BYTES} bytes")
    return text


def client_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """By what a connection to a receiver is encrypted, which has to prove who it is.

    Args:
        ca: PEM file with the authorities to trust; None: those of the system.
        certificate: PEM file by which we prove who we are; None: by none.
        key: PEM file with its key; None: it is in the same file.

    Raises:
        ConfigurationError: a file cannot be read or used.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:
        files = ", ".join(str(each) for each in (ca, certificate, key) if each)
        reason = error.strerror or str(error)
        raise ConfigurationError(f"TLS cannot use {files}: {reason}") from error
    return context


def _no_password() -> str:
    """A key with a password would make OpenSSL ask for it on the terminal."""
    return ""
