"""Identities: a role and a name, as `spiffe://tandem/<role>/<name>` stands in a certificate."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote, unquote

from common.domain.errors import InvalidInputError

TRUST_DOMAIN = "tandem"
SERVER_DOMAIN = "tandem.internal"
"""Ends the names by which servers are checked; no resolver ever gets to see one."""

MAX_NAME_CHARACTERS = 200

_PREFIX = f"spiffe://{TRUST_DOMAIN}/"
IDENTITY_FORM = f"{_PREFIX}ROLE/NAME"
"""How an identity stands in a certificate, for people."""
_LABEL = re.compile(r"(?!x--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Role(Enum):
    """What an identity is in the system, and so what it may do: `common.server.authorization`."""

    CLIENT = "client"
    OPERATOR = "operator"
    MONITOR = "monitor"
    GATEWAY = "gateway"
    ORCHESTRATOR = "orchestrator"
    BACKBONE = "backbone"
    TRANSFORMER = "transformer"

    @property
    def is_peer(self) -> bool:
        """Whether services of the system have this role, and nobody outside of it."""
        return self not in (Role.CLIENT, Role.OPERATOR, Role.MONITOR)


@dataclass(frozen=True)
class Identity:
    """Who somebody is.

    Attributes:
        role: what it is in the system.
        name: of the node for a backbone or a transformer; any name for the other roles.
    """

    role: Role
    name: str

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            InvalidInputError: it is empty, too long, or not printable.
        """
        if not 0 < len(self.name) <= MAX_NAME_CHARACTERS or not self.name.isprintable():
            raise InvalidInputError(
                f"the name of a {self.role.value} has 1 to {MAX_NAME_CHARACTERS} printable "
                "characters"
            )

    def __str__(self) -> str:
        """As people are told it: `client/camera-7`."""
        return f"{self.role.value}/{self.name}"

    @property
    def uri(self) -> str:
        """As it stands in a certificate's URI subject alternative name."""
        return f"{_PREFIX}{self.role.value}/{quote(self.name, safe='')}"

    @property
    def server_name(self) -> str:
        """The DNS subject alternative name by which callers check that a server is this one.

        gRPC compares the names of a server with DNS and IP names only, never with URIs. A name that
        is no label of DNS, or one with capitals, since DNS does not tell them apart, is hashed.
        """
        label = self.name
        if not _LABEL.fullmatch(label):
            label = "x--" + hashlib.sha256(label.encode()).hexdigest()[:40]
        return f"{label}.{self.role.value}.{SERVER_DOMAIN}"

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Read `ROLE/NAME`, or the URI of an identity.

        Raises:
            InvalidInputError: it is neither.
        """
        is_uri = text.startswith(_PREFIX)
        role, slash, name = (text[len(_PREFIX) :] if is_uri else text).partition("/")
        known = {each.value: each for each in Role}
        if role not in known or not slash or (is_uri and "/" in name):
            raise InvalidInputError(
                f"{text[:100]!r} is no identity, which is ROLE/NAME with a role of "
                + ", ".join(known)
            )
        try:
            return cls(known[role], unquote(name, errors="strict") if is_uri else name)
        except UnicodeDecodeError:
            raise InvalidInputError(f"the name in {text[:100]!r} is no UTF-8") from None


@dataclass(frozen=True)
class Proof:
    """What a certificate or a token proves while it is valid.

    Attributes:
        identity: of whom it was issued to.
        expires_at_seconds: when it ends, in seconds since 1970.
    """

    identity: Identity
    expires_at_seconds: float
