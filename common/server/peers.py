"""Who calls."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote


def host_of(peer: str) -> str:
    """The host part of a peer as gRPC names it; what one machine can have many of is one.

    `ipv4:1.2.3.4:5678` is `1.2.3.4`, also where it came over IPv6; `ipv6:%5B2001:db8::1%5D:5678` is
    its network of 64 bits, `2001:db8::/64`; all that call by Unix sockets are `unix`.
    """
    kind, _, rest = unquote(peer).partition(":")
    if kind.startswith("unix"):
        return "unix"
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host or peer
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_loopback:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False))
