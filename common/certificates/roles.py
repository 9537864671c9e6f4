"""Who holds a certificate: whose names can be issued, and the hosts that a server is reached by."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Tuple

from common.domain.errors import InvalidInputError
from common.security.identity import Identity

# A name is a folder, and part of host names.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


def checked_holder(identity: Identity) -> Identity:
    """Let an identity through that certificates can be issued to.

    Raises:
        InvalidInputError: its name cannot be that of a folder.
    """
    if not _NAME.fullmatch(identity.name):
        raise InvalidInputError(
            f"{identity.name!r} cannot be a holder's name: it has at most 63 letters, digits, "
            "dots, underscores and hyphens, and begins and ends with a letter or a digit"
        )
    return identity


def usual_hosts(identity: Identity) -> Tuple[str, ...]:
    """What a server is called by other services, on its own machine, by mDNS, and by Compose."""
    if not identity.role.is_peer:
        return ()
    role, name = identity.role.value, identity.name
    return (
        *(identity.server_name, "localhost", "127.0.0.1", "::1"),
        *(role, f"{name}-{role}", name, f"{name}.local"),
    )


def checked_host(text: str) -> str:
    """Check a host that a certificate is to be valid for: a name, or an address without a port.

    Brackets around an IPv6 address are removed, and so is its zone, which no other machine knows.

    Raises:
        InvalidInputError: it is neither.
    """
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    with suppress(ValueError):
        return str(ipaddress.ip_address(host.partition("%")[0]))
    if len(host) <= 253 and all(map(_LABEL.fullmatch, host.split("."))):
        return host.lower()
    raise InvalidInputError(
        f"{text!r} is no host: give a name such as tx2.local or an address such as 192.168.1.20, "
        "without a port"
    )
