"""Asks the system's resolver for the addresses of a name, without waiting for it forever."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from typing import Awaitable, Callable, Dict, Sequence, Tuple

from common.domain.address import Address
from common.domain.errors import UnavailableError

LookUp = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the addresses of a host and port, `HOST:PORT` each; raises UnavailableError."""

_PATIENCE_SECONDS = 5.0


class SystemResolver:
    """Looks names up by `getaddrinfo`, which knows all sources of names that the system has.

    That call cannot be cancelled, and it may hang for as long as a DNS server does. So each name is
    asked for on a thread of its own, one question at a time, and the end of the process does not
    wait for it.
    """

    def __init__(self, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait for each answer for so long."""
        self._patience_seconds = patience_seconds
        self._asked: Dict[Tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def look_up(self, host: str, port: int) -> Sequence[str]:
        """All addresses of a name, of IPv4 first, in an order that does not change.

        Raises:
            UnavailableError: the name is not known, the resolver failed, or it took too long.
        """
        asked = self._asked.get((host, port))
        if asked is None or asked.done():
            asked = self._asked[host, port] = self._ask(host, port)
        try:
            # An answer that comes too late is taken by the next question.
            return await asyncio.wait_for(asyncio.shield(asked), self._patience_seconds)
        except asyncio.TimeoutError:
            raise UnavailableError(
                f"the resolver has not answered for {self._patience_seconds:g} s"
            ) from None

    def _ask(self, host: str, port: int) -> asyncio.Future[Sequence[str]]:
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[Sequence[str]] = loop.create_future()
        # Nobody may wait any more when it fails.
        asked.add_done_callback(lambda each: each.cancelled() or each.exception())

        def ask() -> None:
            settle: Callable[[], None]
            try:
                addresses = _addresses(host, port)
            except (OSError, UnicodeError) as error:
                fault = UnavailableError(_words_of(error))
                settle = lambda: asked.set_exception(fault)  # noqa: E731 - one of two
            else:
                settle = lambda: asked.set_result(addresses)  # noqa: E731
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle)

        threading.Thread(target=ask, name="resolver", daemon=True).start()
        return asked


def _addresses(host: str, port: int) -> Sequence[str]:
    try:
        # Of families that this machine has an address of.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror:
        # Loopback addresses do not count as this machine's, which may have no others.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    hosts = {_plain(str(each[4][0])) for each in found}
    return [str(Address(each, port)) for each in sorted(hosts, key=_rank)]


def _plain(host: str) -> str:
    """An address of IPv4 in the clothes of IPv6 as what it is."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return host


def _rank(host: str) -> Tuple[int, int, str]:
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.version, int(address), host


def _words_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
