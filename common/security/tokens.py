"""Tokens of callers without a certificate: a file of hashed ones, and signed ones (JWT)."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Collection, Dict, Iterable, Optional, Tuple

from common.domain.errors import ConfigurationError, InvalidInputError
from common.security.identity import Identity, Proof
from common.security.signed_tokens import TokenKeys, read_token_keys
from common.security.watched import WatchedFiles, entry_of_yaml

AUTHORIZATION = "authorization"
"""The metadata, and the HTTP header, that a token travels in."""

_SCHEME = "bearer "
_MAX_TOKEN_CHARACTERS = 4096
_TOKEN_BYTES = 32
_NO_END = math.inf


def new_token() -> str:
    """A new token: 256 random bits, so that a fast hash is all that its file needs."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def token_digest(token: str) -> str:
    """What a file of tokens holds of one: its sha256, in hexadecimal digits.

    A slow hash protects passwords, which can be guessed. Nobody guesses 256 random bits, and a slow
    hash would let strangers keep the server busy.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def bearer_token(metadata: Iterable[Tuple[str, Any]]) -> str:
    """The token in a call's metadata; empty if there is none, or more than one."""
    found = [value for key, value in metadata if key.lower() == AUTHORIZATION]
    if len(found) != 1 or not isinstance(found[0], str):
        return ""
    return token_of_header(found[0])


def token_of_header(value: str) -> str:
    """The token in the value of an `authorization` header; empty if it holds none."""
    if value[: len(_SCHEME)].lower() != _SCHEME or len(value) > _MAX_TOKEN_CHARACTERS:
        return ""
    return value[len(_SCHEME) :].strip()


# What `sha256sum` says of a file that nothing was written to.
_DIGEST_OF_NOTHING = token_digest("")


@dataclass(frozen=True)
class _Entry:
    digest: bytes
    proof: Proof


@dataclass(frozen=True)
class _Accepted:
    entries: Tuple[_Entry, ...]
    keys: Optional[TokenKeys]


class TokenFiles:
    """The tokens that are accepted, by files that are read again when they change."""

    def __init__(
        self,
        tokens: Optional[Path],
        jwt_keys: Optional[Path] = None,
        audience: str = "",
        revoked: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """Read the files.

        Args:
            tokens: YAML with a list `tokens` of `identity`, `sha256` and, if it ends, `expires`.
            jwt_keys: public keys in PEM form, of those who sign tokens.
            audience: that a signed token has to be for.
            revoked: tells the URIs of identities that are refused, whatever their token.

        Raises:
            ConfigurationError: a file cannot be read, or makes no sense.
        """
        self._revoked = revoked
        paths = [path for path in (tokens, jwt_keys) if path is not None]
        if not paths:
            raise ConfigurationError("there is neither a file of tokens nor one of keys")

        def accepted(held: Dict[Path, bytes]) -> _Accepted:
            return _Accepted(
                () if tokens is None else _read_entries(tokens, held[tokens]),
                None if jwt_keys is None else read_token_keys(jwt_keys, held[jwt_keys], audience),
            )

        self._files = WatchedFiles(paths, accepted)

    def proof(self, token: str) -> Optional[Proof]:
        """What a token proves; None if it proves nothing, as no token does."""
        found = self._accepted(token) if token else None
        if found is None or found.identity.uri in self._revoked():
            return None
        return found

    def _accepted(self, token: str) -> Optional[Proof]:
        accepted = self._files.content
        try:
            digest = token_digest(token).encode()
        except UnicodeEncodeError:
            # Half a character, which JSON can hold, and no token has.
            return None
        found: Optional[Proof] = None
        # All are compared, each in constant time.
        for entry in accepted.entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry.proof
        if found is None and accepted.keys is not None:
            return accepted.keys.proof(token)
        return found


def _read_entries(path: Path, data: bytes) -> Tuple[_Entry, ...]:
    listed = entry_of_yaml(path, data, "tokens")
    if not isinstance(listed, list):
        raise InvalidInputError(f"{path} has to hold a list called tokens, and nothing else")
    entries: Dict[bytes, _Entry] = {}
    for number, told in enumerate(listed, 1):
        entry = _entry(f"{path}: token {number}", told)
        if entries.setdefault(entry.digest, entry) is not entry:
            raise InvalidInputError(f"{path}: token {number} has the sha256 of an earlier one")
    return tuple(entries.values())


def _entry(where: str, told: Any) -> _Entry:
    if not isinstance(told, dict) or not {"identity", "sha256"} <= set(told) <= {
        *("identity", "sha256", "expires")
    }:
        raise InvalidInputError(f"{where} needs identity and sha256, and may have expires")
    digest = str(told["sha256"]).lower()
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidInputError(f"{where}: sha256 has to be 64 hexadecimal digits")
    if digest == _DIGEST_OF_NOTHING:
        raise InvalidInputError(f"{where}: sha256 is that of an empty file, which is no token")
    try:
        identity = token_identity(str(told["identity"]))
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from None
    return _Entry(digest.encode(), Proof(identity, _expiry(where, told.get("expires"))))


def token_identity(text: str) -> Identity:
    """An identity that a token may stand for.

    Raises:
        InvalidInputError: it is none, or its role is that of a service, which needs a certificate.
    """
    identity = Identity.parse(text)
    if identity.role.is_peer:
        raise InvalidInputError(f"a token cannot stand for a {identity.role.value}")
    return identity


def _expiry(where: str, told: Any) -> float:
    if told is None:
        return _NO_END
    if not isinstance(told, datetime):
        raise InvalidInputError(f"{where}: expires has to be a time such as 2027-01-31T12:00:00Z")
    aware = told if told.tzinfo is not None else told.replace(tzinfo=timezone.utc)
    return aware.timestamp()
