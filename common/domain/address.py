"""Where a server listens, in every spelling that people use."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import re
from dataclasses import dataclass
from typing import Optional, Tuple

from common.domain.errors import InvalidInputError
from common.domain.redaction import masked

DEFAULT_PORT = 50050
"""Of the orchestrator, which is what clients connect to."""

_NAME_SCHEME = "dns:///"
_UNIX_SCHEMES = ("unix:", "unix-abstract:")
_IP_SCHEMES = {"ipv4:": 4, "ipv6:": 6}
# Names of containers have underscores; international names are left to the resolver. To that, `*`
# is this machine alone or all that reaches it, as it is asked.
_NAME = re.compile(r"[^\s\x00-\x20:/\\@\[\]%?#,;'\"{}*]+")
_ZONE = re.compile(r"[A-Za-z0-9_.~-]+")


@dataclass(frozen=True)
class Address:
    """A server's address.

    Attributes:
        host: a name, an IPv4 or IPv6 address (without brackets), or `unix:PATH`.
        port: of TCP; 0 for a Unix socket.
    """

    host: str
    port: int

    def __str__(self) -> str:
        """As it can be given to any part of Tandem: `[::1]:50050`, `tx2.local:50050`, `unix:/t`."""
        return self.host if is_unix(self.host) else f"{bracketed(self.host)}:{self.port}"

    @property
    def target(self) -> str:
        """What gRPC connects to.

        With its scheme, since a name such as `unix` would be taken for one. A zone's percent sign
        is escaped, as in every URI.
        """
        if is_unix(self.host):
            return self.host
        with contextlib.suppress(UnicodeError):
            host = self.host if self.host.isascii() else self.host.encode("idna").decode()
            return f"dns:///{bracketed(host).replace('%', '%25')}:{self.port}"
        return f"dns:///{self.host}:{self.port}"


def parse_address(
    text: str, default_port: Optional[int] = None, what: str = "the address"
) -> Address:
    """Read `HOST:PORT`, where HOST is a name, an IPv4 address or an IPv6 address in brackets.

    Also taken: gRPC's own spellings (`ipv4:`, `ipv6:`, `dns:`, `unix:`, `unix-abstract:`), and an
    IPv6 address without brackets, where nobody can tell which colon would precede the port.

    Args:
        text: what somebody wrote.
        default_port: of an address without a port; None: such a one is refused.
        what: that this is the address of, for errors.

    Raises:
        InvalidInputError: it is none of these; with the text, and how it should look.
    """
    if is_unix(text):
        return Address(_unix_socket(text, what), 0)
    host, port = _split(_without_scheme(text))
    if port is None and default_port is not None:
        port = str(default_port)
    if port is None or not (is_ip(host, 6) or _NAME.fullmatch(host)):
        raise InvalidInputError(
            f"{what} {masked(text)!r} is not host:port, such as tx2.local:50050 or [::1]:50050"
        )
    if not (port.isdecimal() and port.isascii()) or not 1 <= int(port[:6]) <= 65535:
        raise InvalidInputError(
            f"{what} {masked(text)!r} is not host:port: a port is from 1 to 65535"
        )
    return Address(host, int(port))


def parse_replicas(text: str, default_port: Optional[int] = None) -> str:
    """Read the address of a server, or a name that leads to several: `dns:///NAME:PORT`.

    Returns:
        It as Tandem shows it everywhere; a name of several has `dns:///` in front of it.

    Raises:
        InvalidInputError: it is neither.
    """
    address = parse_address(text, default_port)
    is_name = _without_scheme(text) != text and text.startswith("dns:")
    if is_name and not (is_ip(address.host, 4) or is_ip(address.host, 6)):
        return f"{_NAME_SCHEME}{address}"
    return str(address)


def leads_to_several(address: str) -> bool:
    """Whether this is a name of several servers, as `parse_replicas` shows it."""
    return address.startswith(_NAME_SCHEME)


def parse_host(text: str) -> str:
    """Read the host that a server listens on: `0.0.0.0`, `::1`, `[::1]`, a name, `unix:PATH`.

    Raises:
        InvalidInputError: it is no host; or it has a port, which is a setting of its own.
    """
    if is_unix(text):
        return _unix_socket(text, "the host")
    host, port = _split(_without_scheme(text))
    if port is None and (is_ip(host, 6) or _NAME.fullmatch(host)):
        return host
    reason = "is an address and a port" if port else "is no name or address"
    raise InvalidInputError(f"the host {masked(text)!r} {reason}; give 127.0.0.1, ::1 or a name")


def bracketed(host: str) -> str:
    """A host as it stands in front of a port, and in a URL."""
    return f"[{host}]" if ":" in host else host


def is_unix(host: str) -> bool:
    """Whether this is a Unix socket and not a host."""
    return host.startswith(_UNIX_SCHEMES)


def is_ip(host: str, version: int) -> bool:
    """Whether a host is an address of this version of IP; with a zone (`fe80::1%eth0`), too."""
    address, percent, zone = host.partition("%")
    if percent and (version == 4 or not _ZONE.fullmatch(zone)):
        return False
    try:
        return ipaddress.ip_address(address).version == version
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host is plainly this machine itself, without asking a resolver; a socket is."""
    if is_unix(host) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def binding_fault(host: str, port: int, error: OSError) -> str:
    """Why nothing can listen there, in words that say what to change.

    Args:
        host: that was to be listened on.
        port: likewise.
        error: of binding a socket, or of looking the name up.
    """
    where = Address(host, port)
    if error.errno == errno.EADDRINUSE:
        taken = f"{where} is in use" if is_unix(host) else f"port {port} of {host} is in use"
        return f"cannot listen on {where}: {taken} by another program"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "; ports below 1024 are for root" if 0 < port < 1024 else ""
        return f"cannot listen on {where}: permission denied{hint}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {where}: {host} is no address of this machine"
    return f"cannot listen on {where}: {error.strerror or error}"


def _unix_socket(text: str, what: str) -> str:
    scheme, _, path = text.partition(":")
    # unix:///run/a is unix:/run/a; with another authority it would name another machine.
    if path.startswith("///"):
        path = path[2:]
    if not path or path.startswith("//"):
        raise InvalidInputError(f"{what} {masked(text)!r} is not unix:PATH")
    return f"{scheme}:{path}"


def _without_scheme(text: str) -> str:
    for scheme, version in _IP_SCHEMES.items():
        rest = text[len(scheme) :]
        if text.startswith(scheme) and is_ip(_split(rest)[0], version):
            return rest
    if text.startswith(_NAME_SCHEME):
        return text[len(_NAME_SCHEME) :]
    # `dns:50050` is a host of that name.
    if text.startswith("dns:") and _split(text[len("dns:") :])[1] is not None:
        return text[len("dns:") :]
    return text


def _split(text: str) -> Tuple[str, Optional[str]]:
    """Host and port; no port where there is none. Brackets are for IPv6 alone."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if closed and is_ip(host, 6) and (not rest or rest.startswith(":")):
            return host, rest[1:] if rest else None
        return "", None
    if is_ip(text, 6):
        return text, None
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, None
    # Five digits are no part of an IPv6 address, so that fd00::5:50051 has but one meaning.
    return (host, port) if ":" not in host or is_ip(host, 6) else ("", None)
