"""Signatures of bundles: Ed25519 (RFC 8032) over the bytes of `bundle.json`, in `bundle.sig`.

The manifest has the digest of every file, so its signature covers the whole bundle. The signature
is the 64 bytes as they are and keys are PEM, so that OpenSSL makes and verifies them as well:

    openssl pkeyutl -verify -rawin -pubin -inkey KEY.pub -in bundle.json -sigfile bundle.sig
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.bundle.reading import read_inside
from common.domain.errors import ConfigurationError
from common.files import replace_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE_NAME = "bundle.sig"
PUBLIC_KEY_SUFFIX = ".pub"
"""Behind the name of the private key's file."""

_MOST_KEY_BYTES = 16 << 10
_MOST_SIGNATURE_BYTES = 1024


def require_signed(folder: Path, manifest: bytes, key: Path) -> None:
    """Make sure that a manifest is signed.

    Args:
        folder: of the bundle, with `bundle.sig`.
        manifest: the bytes of `bundle.json` that are used from here on.
        key: file of the public key.

    Raises:
        ConfigurationError: there is no signature, or it is not this key's for this manifest; or
            the key cannot be read.
    """
    public = _public_key(key)
    try:
        signature = read_inside(folder, SIGNATURE_NAME, _MOST_SIGNATURE_BYTES)
    except ConfigurationError as error:
        raise ConfigurationError(f"bundle {folder} is not signed: {error}") from error
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, manifest)
    except InvalidSignature as error:
        raise ConfigurationError(
            f"bundle {folder}: {SIGNATURE_NAME} is no signature of its bundle.json by the key "
            f"{key}: another key signed it, or it was changed since"
        ) from error


def sign(folder: Path, manifest: bytes, key: Path) -> Path:
    """Write the signature of a manifest.

    Args:
        folder: of the bundle.
        manifest: the bytes of its `bundle.json`.
        key: file of the private key.

    Returns:
        The signature's file.

    Raises:
        ConfigurationError: the key cannot be read.
        OSError: the signature cannot be written.
    """
    path = folder / SIGNATURE_NAME
    replace_bytes(path, _private_key(key).sign(manifest))
    return path


def write_keys(key: Path) -> Path:
    """Make a pair of keys: the private one in `key`, for its owner only, beside it the public one.

    Returns:
        The public key's file.

    Raises:
        ConfigurationError: one of the files exists.
        OSError: one cannot be written.
    """
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = key.with_name(key.name + PUBLIC_KEY_SUFFIX)
    for path in (key, public):
        if path.exists():
            raise ConfigurationError(f"{path} exists: a key that is in use would be lost")
    made = Ed25519PrivateKey.generate()
    private_text = made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public_text = made.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(key, private_text, 0o600)
    _write_new(public, public_text, 0o644)
    return public


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(str(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _public_key(path: Path) -> Ed25519PublicKey:
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    content = _key_text(path)
    if b"PRIVATE KEY" in content:
        raise ConfigurationError(
            f"{path} is a private key, which only who signs may have: give the public one"
        )
    try:
        key = serialization.load_pem_public_key(content)
    # cryptography raises its own UnsupportedAlgorithm, ValueError and TypeError; none of their
    # texts is shown, since they may quote the file.
    except Exception as error:
        raise ConfigurationError(f"{path} is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"{path} is no Ed25519 key: make one with `tandem model keygen`")
    return key


def _private_key(path: Path) -> Ed25519PrivateKey:
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    content = _key_text(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise ConfigurationError(f"{path} is encrypted: give a key without a password") from error
    except Exception as error:
        raise ConfigurationError(f"{path} is no private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} is no Ed25519 key: make one with `tandem model keygen`")
    return key


def _key_text(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_KEY_BYTES)
    except OSError as error:
        raise ConfigurationError(f"cannot read the key {path}: {error.strerror}") from error


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise ConfigurationError(
            "signatures need the package cryptography, which is not installed here"
        ) from error
    return serialization
