"""Who calls a door over HTTP, as a bearer token proves it."""

from __future__ import annotations

import time

from common.domain.errors import AccessDeniedError
from common.security.identity import Identity, Role
from common.security.tokens import TokenFiles, token_of_header

USERS = frozenset({Role.CLIENT, Role.OPERATOR})
"""Who may look at the live view."""


class UnknownCallerError(AccessDeniedError):
    """The caller proves no identity: over HTTP, 401 and not 403."""


class Callers:
    """Knows callers by the tokens of files that are read again when they change."""

    def __init__(self, tokens: TokenFiles | None) -> None:
        """Accept these tokens; None: nobody has to prove anything."""
        self._tokens = tokens

    def of_header(self, authorization: str, roles: frozenset[Role]) -> Identity | None:
        """See `of_token`, of the token in an `authorization` header."""
        return self.of_token(token_of_header(authorization), roles)

    def of_token(self, token: str, roles: frozenset[Role]) -> Identity | None:
        """Who has a token; None where nobody has to prove anything.

        Args:
            token: without the word `Bearer`; empty for none.
            roles: one of which the caller has to have.

        Raises:
            UnknownCallerError: it proves no identity, or not any more.
            AccessDeniedError: it is of another role.
        """
        if self._tokens is None:
            return None
        proof = self._tokens.proof(token) if token else None
        if proof is None or proof.expires_at_seconds <= time.time():
            raise UnknownCallerError("this needs a valid token")
        if proof.identity.role not in roles:
            raise AccessDeniedError("access denied")
        return proof.identity
