"""What a name leads to, by answers of a resolver that a test gives. Also on Python 3.8."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from common.domain.errors import UnavailableError
from common.wire.records import NameRecords

A, B, C = "10.0.0.1:7", "10.0.0.2:7", "10.0.0.3:7"
SIX = "[fd00::1]:7"
DOWN = UnavailableError("no DNS")


class Resolver:
    """Gives each of these answers once, and the last of them from then on."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def look_up(self, host, port):
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@asynccontextmanager
async def looking_up(resolver, interval_seconds=0.001, **changes):
    """The records, and the addresses and faults after each of the answers."""
    seen, more = [], asyncio.Event()

    def note():
        seen.append((records.addresses, records.fault))
        more.set()

    values = {"most_addresses": 10, "on_answer": note, **changes}
    records = NameRecords("dns:///stage.test:7", resolver.look_up, interval_seconds, **values)
    looking = asyncio.ensure_future(records.run())

    async def after(answers):
        while len(seen) < answers:
            more.clear()
            await asyncio.wait_for(more.wait(), 60)
        return seen[answers - 1]

    try:
        yield records, after
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def addresses_after(*answers, **changes):
    resolver = Resolver(*answers)
    async with looking_up(resolver, **changes) as (_, after):
        addresses, _ = await after(len(answers))
        assert resolver.asked[0] == ("stage.test", 7)
        return addresses


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([[A]], (A,)),
        ([[A], [A, B]], (A, B)),
        # What came first stays first, whatever order an answer has.
        ([[B], [A, B], [B, A], [A, B]], (B, A)),
        # One answer that lacks an address says little, two in a row do.
        ([[A, B], [A]], (A, B)),
        ([[A, B], [A], [A, B], [A]], (A, B)),
        ([[A, B], [A], [A]], (A,)),
        ([[A, B], [C], [C]], (C,)),
        # No answer and an empty one change nothing, and are no second answer either.
        ([[A, B], DOWN, DOWN, DOWN], (A, B)),
        ([[A, B], [], [], []], (A, B)),
        ([[A, B], [A], DOWN, [A, B]], (A, B)),
        ([DOWN, [A]], (A,)),
        ([[]], ()),
    ],
)
async def test_the_addresses_of_a_name(answers, expected):
    assert await addresses_after(*answers) == expected


async def test_of_hundreds_of_addresses_the_known_ones_go_on_being_used():
    many = [f"10.1.{number // 250}.{number % 250}:7" for number in range(600)]
    resolver = Resolver([A, B], [*many, B, A], [*many, A])
    async with looking_up(resolver, most_addresses=4) as (records, after):
        addresses, fault = await after(2)
        assert addresses == (A, B, *many[:2])
        assert fault == "has 602 addresses, of which 598 are left out"
        await after(4)
        assert records.addresses == (A, *many[:3])


async def test_a_server_with_addresses_of_both_families_counts_once():
    assert await addresses_after([A, SIX], of_one_family=True) == (A,)
    assert await addresses_after([SIX], of_one_family=True) == (SIX,)
    assert await addresses_after([A, SIX]) == (A, SIX)


async def test_a_fault_is_told_once_and_so_is_its_end():
    with capture_logs() as logs:
        async with looking_up(Resolver([A], DOWN, DOWN, DOWN, [A])) as (records, after):
            assert await after(4) == ((A,), "cannot be looked up (no DNS)")
            assert not records.is_answered
            assert await after(5) == ((A,), "")
    told = [(each["log_level"], each["fault"]) for each in logs if "fault" in each]
    assert told == [("warning", "cannot be looked up (no DNS)"), ("info", "")]


async def test_who_needs_news_does_not_wait_for_the_interval():
    async with looking_up(Resolver([A], [A, B]), interval_seconds=3600) as (records, after):
        await after(1)
        await asyncio.wait_for(records.next_answer(30), 20)
        assert records.addresses == (A, B)


async def test_who_needs_news_does_not_wait_forever():
    hangs = asyncio.Event()

    class Hanging(Resolver):
        async def look_up(self, host, port):
            await hangs.wait()

    async with looking_up(Hanging([A])) as (records, _):
        await asyncio.wait_for(records.next_answer(0.01), 60)
        assert records.addresses == ()
