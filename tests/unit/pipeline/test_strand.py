"""Jobs of a strand run one at a time and in order, and hold up no other stream."""

import asyncio
import sys
import threading

import pytest

from services.pipeline.strand import Strand
from services.pipeline.turns import TurnThreads


@pytest.fixture
def threads():
    running = TurnThreads(2, "worker")
    yield running
    running.close(5)


@pytest.fixture
def hasty_threads():
    """Threads change at nearly every instruction, so that races show."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_jobs_run_in_order_and_never_two_at_a_time(threads, hasty_threads):
    strand, count = Strand(threads, "s"), 20_000
    ran, alone, ended = [], threading.Lock(), threading.Event()

    def job(number):
        assert alone.acquire(blocking=False)
        ran.append(number)
        alone.release()
        if number == count - 1:
            ended.set()

    for number in range(count):
        strand.submit(lambda number=number: job(number))
    # A thread that an exception has ended would leave jobs behind.
    assert ended.wait(60)
    assert ran == list(range(count))


async def test_a_job_that_takes_long_holds_up_its_own_stream_alone(threads):
    slow, other = Strand(threads, "slow"), Strand(threads, "other")
    begun, may_end = threading.Event(), threading.Event()

    def hang():
        begun.set()
        assert may_end.wait(30)
        return "first"

    first = asyncio.ensure_future(slow.call(hang))
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    behind = [asyncio.ensure_future(slow.call(lambda number=number: number)) for number in range(9)]
    for number in range(100):
        assert await asyncio.wait_for(other.call(lambda number=number: number), 60) == number
    assert not any(each.done() for each in behind)
    may_end.set()
    assert await asyncio.gather(first, *behind) == ["first", *range(9)]


async def test_answers_come_in_the_order_of_the_jobs(threads, hasty_threads):
    """Whoever is woken by them sends what they coded, in this order."""
    strand, woken = Strand(threads, "s"), []

    async def wait(number):
        await strand.call(lambda: None)
        woken.append(number)

    await asyncio.gather(*(wait(number) for number in range(2000)))
    assert woken == list(range(2000))


async def test_what_a_function_raises_is_its_caller_s(threads):
    strand = Strand(threads, "s")

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await strand.call(fail)
    assert await strand.call(lambda: 1) == 1


async def test_nobody_has_to_wait_for_an_answer(threads):
    strand = Strand(threads, "s")
    begun, may_end = threading.Event(), threading.Event()

    def hang():
        begun.set()
        may_end.wait(30)

    given_up = asyncio.ensure_future(strand.call(hang))
    await asyncio.get_running_loop().run_in_executor(None, begun.wait)
    given_up.cancel()
    await asyncio.wait([given_up])
    may_end.set()
    assert await strand.call(lambda: 2) == 2
