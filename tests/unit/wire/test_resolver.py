"""The system's resolver, as the services ask it. Also on Python 3.8."""

import asyncio
import socket
import threading

import pytest

from common.domain.errors import UnavailableError
from common.wire.resolver import SystemResolver


def answering(monkeypatch, *hosts):
    """Have the system give these addresses."""

    def getaddrinfo(host, port, **_):
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port))
            for each in hosts
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_this_machine_is_known():
    assert "127.0.0.1:7" in await SystemResolver().look_up("localhost", 7)
    assert await SystemResolver().look_up("127.0.0.9", 7) == ["127.0.0.9:7"]


@pytest.mark.parametrize("host", ["nobody.invalid", "x" * 70 + ".test", "a..b"])
async def test_a_name_that_nobody_has(host):
    with pytest.raises(UnavailableError, match="[a-z]"):
        await asyncio.wait_for(SystemResolver().look_up(host, 7), 20)


async def test_addresses_come_in_an_order_of_their_own(monkeypatch):
    answering(monkeypatch, "fd00::2", "10.0.0.10", "10.0.0.9", "fe80::1%eth0", "::ffff:10.0.0.9")
    assert await SystemResolver().look_up("many.test", 7) == [
        "10.0.0.9:7",
        "10.0.0.10:7",
        "[fd00::2]:7",
        "[fe80::1%eth0]:7",
    ]


async def test_a_resolver_that_hangs_is_asked_once(monkeypatch):
    goes_on, asked = threading.Event(), []

    def getaddrinfo(host, port, **_):
        asked.append(host)
        goes_on.wait(30)
        return [(socket.AF_INET, 1, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = SystemResolver(patience_seconds=0.01)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="has not answered for 0.01 s"):
            await resolver.look_up("slow.test", 7)
    assert asked == ["slow.test"]
    patient = asyncio.ensure_future(SystemResolver(30).look_up("other.test", 7))
    goes_on.set()
    assert await patient == ["10.0.0.1:7"]
