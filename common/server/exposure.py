"""Whether other machines can reach a server; without TLS they may only if somebody says so."""

from __future__ import annotations

import ipaddress
import socket
from typing import List

from common.domain.address import is_unix
from common.domain.errors import ConfigurationError


def reaches_others(host: str) -> bool:
    """Whether a server that listens on this host can be reached from other machines.

    Args:
        host: a name, an address, or `unix:PATH`. A name that cannot be resolved reaches nobody:
            nothing can listen there either.
    """
    if is_unix(host):
        return False
    # As servers look it up that are to listen there: `*` is every address then.
    return not all(map(_is_loopback, _addresses(host, socket.AI_PASSIVE)))


def is_elsewhere(host: str) -> bool:
    """Whether a server that is called by this host is on another machine, or may be.

    Args:
        host: a name or an address. A name that cannot be resolved now, as while a machine starts,
            may lead anywhere later.
    """
    addresses = _addresses(host)
    return not addresses or not all(map(_is_loopback, addresses))


def refuse_exposure(host: str, has_tls: bool, insecure: bool) -> None:
    """Make sure that other machines can reach a server only if it has TLS, or if that is wanted.

    Args:
        host: that the server is to listen on.
        has_tls: whether its connections are encrypted, and its callers known.
        insecure: whether its user has said that neither is needed.

    Raises:
        ConfigurationError: they could reach it without.
    """
    if has_tls or insecure or not reaches_others(host):
        return
    raise ConfigurationError(
        f"other machines could reach {host} without TLS, where anybody may do anything: give this "
        "service a certificate (tandem certificates init makes one), or allow it by --insecure"
    )


def _addresses(host: str, flags: int = 0) -> List[str]:
    """What a host stands for; empty if it cannot be resolved."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return []
    return [str(address[0]) for *_, address in found]


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
