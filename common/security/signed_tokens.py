"""Signed tokens (JWT): who signed one, what it says, and whether it is to be believed.

Their claims are those of a SPIFFE JWT-SVID: `sub` is the URI of an identity, `aud` names Tandem,
`exp` is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

from common.domain.errors import InvalidInputError

# First, since it keeps what `cryptography` says about Python 3.8 to itself.
from common.security import certificates  # noqa: F401  # isort: skip
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from common.security.identity import Identity, Proof

_KEY_BEGINS = b"-----BEGIN PUBLIC KEY-----"
_KEY = re.compile(_KEY_BEGINS + rb".+?-----END PUBLIC KEY-----", re.DOTALL)
# Clocks of two machines differ.
_LEEWAY_SECONDS = 30.0
_LEAST_RSA_BITS = 2048
# Releases of PyJWT let through what Python says of numbers without end, of lists in the place of
# numbers and of JSON that nests too deeply; the last one before anybody has signed the token.
_NO_TOKEN = (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class TokenKeys:
    """The keys of those who sign tokens.

    Attributes:
        keys: each with the one algorithm that it is for: a token cannot choose another.
        audience: that a token has to be for.
    """

    keys: Sequence[Tuple[str, Any]]
    audience: str

    def proof(self, token: str) -> Optional[Proof]:
        """What a token proves; None if no key has signed it, or it is not for now or not for us."""
        for algorithm, key in self.keys:
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    audience=self.audience,
                    leeway=_LEEWAY_SECONDS,
                    options={"require": ["exp", "aud", "sub"]},
                )
                # It names what a reader has to understand (RFC 7515); we understand no more.
                return None if "crit" in jwt.get_unverified_header(token) else _proof(claims)
            except InvalidInputError:
                return None
            except _NO_TOKEN:
                continue
        return None


def read_token_keys(path: Path, data: bytes, audience: str) -> TokenKeys:
    """The public keys of a PEM file: Ed25519, RSA or P-256.

    Raises:
        InvalidInputError: there is none, or one is malformed or of another kind.
    """
    keys = []
    found = _KEY.findall(data)
    if len(found) < data.count(_KEY_BEGINS):
        raise InvalidInputError(f"{path}: a public key is cut off")
    for pem in found:
        try:
            key = serialization.load_pem_public_key(pem)
        except ValueError:
            raise InvalidInputError(f"{path}: a public key is malformed") from None
        keys.append((_algorithm(path, key), key))
    if not keys:
        raise InvalidInputError(f"{path} holds no public key in PEM form")
    return TokenKeys(tuple(keys), audience)


def _algorithm(path: Path, key: Any) -> str:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS:
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256"
    raise InvalidInputError(
        f"{path}: a public key is neither Ed25519, nor RSA of {_LEAST_RSA_BITS} bits, nor P-256"
    )


def _proof(claims: Dict[str, Any]) -> Proof:
    identity = Identity.parse(str(claims["sub"]))
    if identity.role.is_peer:
        raise InvalidInputError("a service needs a certificate")
    return Proof(identity, float(claims["exp"]) + _LEEWAY_SECONDS)
