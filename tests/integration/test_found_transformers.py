"""Which transformers a backbone connects to, whatever it is asked for. Also on Python 3.8."""

import asyncio
import socket
from contextlib import ExitStack, asynccontextmanager

import pytest

from common.bundle import load_bundle
from common.domain.errors import UnavailableError
from common.domain.placement import Stage
from protos.tandem.v1 import stage_pb2
from services.arguments import stage_arguments
from services.backbone.transformers import Transformers
from tests.harness import TOY_BUNDLE, ServiceProcess

HOSTS = ("127.0.0.2", "127.0.0.3")


@pytest.fixture(scope="module")
def replicas():
    """Transformers at one port of two hosts, by their addresses."""
    with ExitStack() as stack:
        started, port = {}, "0"
        for host in HOSTS:
            arguments = stage_arguments(TOY_BUNDLE, "a", Stage.TRANSFORMER, f"{host}:{port}", {})
            process = ServiceProcess("services.transformer", *arguments, "--insecure")
            stack.callback(process.close)
            started[process.address] = process
            port = process.address.rpartition(":")[2]
        yield started


class Names:
    """What the name leads to now."""

    def __init__(self, *addresses):
        self.addresses = addresses

    async def look_up(self, host, port):
        return self.addresses


@asynccontextmanager
async def transformers(names, configured):
    it = Transformers("a", {"a": configured}, 1 << 20, look_up=names.look_up, lookup_seconds=0.02)
    looking = asyncio.ensure_future(it.run())
    try:
        yield it
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        await it.close()


async def opened(it, address="", replica=0):
    """Open a stream, and close it."""
    opening = stage_pb2.BackboneOpen(
        downstream_node="a", downstream_address=address, downstream_replica=replica
    )
    await (await it.open(opening, load_bundle(TOY_BUNDLE).digest)).close()


async def test_only_what_the_name_leads_to_is_called(replicas):
    first, second = replicas
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        elsewhere = f"127.0.0.1:{listener.getsockname()[1]}"
        names = Names(first)
        async with transformers(names, ["dns:///t.test:1"]) as it:
            await opened(it, first)
            for address in (elsewhere, second, "dns:///localhost:1", "x" * 5000):
                with pytest.raises(UnavailableError, match="no transformer is known at") as caught:
                    await opened(it, address)
                assert first in str(caught.value)
                assert len(str(caught.value)) < 1500
            with pytest.raises(BlockingIOError):
                listener.accept()
            # It is looked up again before it is refused.
            names.addresses = (first, second)
            await opened(it, second)
            # An orchestrator that knows nothing of the name is served by each in turn.
            for _ in range(3):
                await opened(it)


async def test_who_lists_addresses_goes_by_the_number(replicas):
    first, _ = replicas
    async with transformers(Names(), [first, "127.0.0.1:1"]) as it:
        await opened(it, "10.0.0.1:7")
        with pytest.raises(UnavailableError):
            await opened(it, "10.0.0.1:7", replica=1)


async def test_one_in_turn_that_is_gone_is_passed_over(replicas):
    first, _ = replicas
    async with transformers(Names("127.0.0.9:1", first), ["dns:///t.test:1"]) as it:
        for _ in range(3):
            await opened(it)


async def test_a_name_that_leads_nowhere_is_told():
    async with transformers(Names(), ["dns:///t.test:1"]) as it:
        with pytest.raises(UnavailableError, match="dns:///t.test:1 has no address"):
            await opened(it)
