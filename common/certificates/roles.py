"""Who holds a certificate: roles, identities, and the hosts that a server is reached by."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Tuple

from common.domain.errors import InvalidInputError

BACKBONE, TRANSFORMER, ORCHESTRATOR = "backbone", "transformer", "orchestrator"
MONITOR, CLIENT, OPERATOR = "monitor", "client", "operator"
SERVICES = (BACKBONE, TRANSFORMER, ORCHESTRATOR)
"""Roles of servers, which are each other's peers."""
PEERS = (*SERVICES, MONITOR)
"""Roles that the peers' authority certifies."""
CLIENTS = (CLIENT, OPERATOR)
"""Roles that the clients' authority certifies."""
ROLES = (*PEERS, *CLIENTS)

# A name is a folder, part of a URI and part of a host name.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True)
class Holder:
    """Who holds a certificate.

    Attributes:
        role: what it is, which decides what it may call.
        name: the node of a service, or a name of a client, an operator or a monitor.
    """

    role: str
    name: str

    def __post_init__(self) -> None:
        """Check both.

        Raises:
            InvalidInputError: there is no such role, or the name cannot be one.
        """
        if self.role not in ROLES:
            raise InvalidInputError(f"{self.role!r} is no role; roles are {', '.join(ROLES)}")
        if not _NAME.fullmatch(self.name):
            raise InvalidInputError(
                f"{self.name!r} cannot be in an identity: a name has at most 63 letters, digits, "
                "dots, underscores and hyphens, and begins and ends with a letter or a digit"
            )

    @property
    def uri(self) -> str:
        """The identity."""
        return f"spiffe://tandem/{self.role}/{self.name}"

    @property
    def is_server(self) -> bool:
        """Whether others connect to it."""
        return self.role in SERVICES

    @property
    def usual_hosts(self) -> Tuple[str, ...]:
        """What a server is called on its own machine, by mDNS, and in the Compose files."""
        if not self.is_server:
            return ()
        return (
            *("localhost", "127.0.0.1", "::1"),
            *(self.role, f"{self.name}-{self.role}"),
            *(self.name, f"{self.name}.local"),
        )


def checked_host(text: str) -> str:
    """Check a host that a certificate is to be valid for: a name, or an address without a port.

    Brackets around an IPv6 address are removed.

    Raises:
        InvalidInputError: it is neither.
    """
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) <= 253 and all(map(_LABEL.fullmatch, host.split("."))):
        return host.lower()
    raise InvalidInputError(
        f"{text!r} is no host: give a name such as tx2.local or an address such as 192.168.1.20, "
        "without a port"
    )
