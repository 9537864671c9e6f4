"""Bytes are shared out: bounded in all, by peer and by stream, newcomers are let in."""

import asyncio

import pytest

from common.domain.errors import ResourceExhaustedError
from common.server import account as module
from common.server.account import StreamBytes
from common.server.addresses import host_of
from common.server.budget import ByteBudget, FrameCost

MESSAGE = 1 << 20
COST = FrameCost(copies=3)


def budget_of(messages=24, share_peers=True):
    return ByteBudget(messages * MESSAGE, MESSAGE, COST, share_peers=share_peers)


def stream_of(budget, peer="peer"):
    dismissed = []

    def dismiss():
        dismissed.append(True)
        stream.close()

    stream = StreamBytes(budget, peer, dismiss)
    return stream, dismissed


async def read(stream, size):
    await stream.reserve()
    await stream.arrived(size)
    return stream.take()


async def pending(coroutine):
    task = asyncio.ensure_future(coroutine)
    for _ in range(10):
        await asyncio.sleep(0)
    return task


def taken(budget):
    return budget.wide.taken_bytes + budget.narrow.taken_bytes + budget.held.taken_bytes


async def test_all_is_given_back():
    budget = budget_of()
    stream, _ = stream_of(budget)
    charges = [await read(stream, 1000) for _ in range(3)]
    assert budget.held.taken_bytes == 9000
    charges[1].release()
    charges[1].release()
    assert budget.held.taken_bytes == 6000
    await stream.reserve()
    stream.close()
    assert taken(budget) == 0


async def test_what_a_stream_keeps_is_counted_until_it_ends():
    budget = budget_of()
    stream, _ = stream_of(budget)
    stream.keep(700)
    (await read(stream, 1000)).release()
    assert budget.held.taken_bytes == 700
    stream.close()
    stream.close()
    assert taken(budget) == 0


async def test_what_a_stream_keeps_if_there_is_room_is_given_back_bit_by_bit():
    budget = budget_of()
    stream, _ = stream_of(budget)
    other, _ = stream_of(budget, "other")
    room = budget.held.size_bytes
    assert stream.try_keep(700)
    budget.held.take_anyway(other.holder, room - 1000)
    # That somebody waits for more than there is does not matter; that there is no room does.
    waiting = await pending(budget.held.take(other.holder, 2000, None))
    assert stream.try_keep(300)
    assert not stream.try_keep(1)
    stream.keep_less(400)
    assert budget.held.taken_bytes == room - 400
    waiting.cancel()
    stream.close()
    stream.keep_less(600)
    assert budget.held.taken_bytes == room - 1000


async def test_what_a_stream_keeps_waits_for_nobody():
    # The message behind the opening may have taken all that there is, and would wait for this.
    budget = budget_of()
    stream, _ = stream_of(budget)
    all_of_it = budget.held.size_bytes
    budget.held.take_anyway(stream.holder, all_of_it)
    stream.keep(700)
    assert budget.held.taken_bytes == all_of_it + 700


async def test_reads_that_may_bring_anything_are_few_and_half_of_them_a_peer_s():
    budget = budget_of()
    tasks = [await pending(stream_of(budget, "one")[0].reserve()) for _ in range(5)]
    assert sum(task.done() for task in tasks) == 2
    others = [await pending(stream_of(budget, "two")[0].reserve()) for _ in range(5)]
    assert sum(task.done() for task in others) == 2
    for task in tasks + others:
        task.cancel()
    await asyncio.gather(*tasks, *others, return_exceptions=True)


async def test_who_sends_small_frames_does_not_stand_in_the_way():
    # Far more than there is room for messages of any size.
    budget = budget_of()
    for _ in range(16):
        stream, _ = stream_of(budget)
        (await read(stream, 1000)).release()
        await asyncio.wait_for(stream.reserve(), 60)


async def test_a_message_larger_than_was_expected_counts_in_full():
    budget = budget_of()
    stream, _ = stream_of(budget)
    (await read(stream, 1000)).release()
    charge = await read(stream, MESSAGE)
    assert budget.held.taken_bytes == 3 * MESSAGE
    await stream.reserve()
    assert budget.wide.taken_bytes == MESSAGE
    charge.release()
    stream.close()
    assert taken(budget) == 0


async def test_what_is_held_stays_below_the_limit():
    budget = budget_of(share_peers=False)
    most, done = 0, 0

    async def send():
        nonlocal most, done
        stream, _ = stream_of(budget)
        for _ in range(3):
            charge = await read(stream, MESSAGE)
            most = max(most, taken(budget))
            await asyncio.sleep(0)
            charge.release()
        stream.close()
        done += 1

    await asyncio.wait_for(asyncio.gather(*(send() for _ in range(64))), 30)
    assert done == 64
    assert 6 * MESSAGE < most <= 21 * MESSAGE
    assert taken(budget) == 0


async def test_a_stream_gets_a_quarter_and_goes_on_when_it_gives_back():
    budget = budget_of()
    stream, _ = stream_of(budget)
    first = await read(stream, MESSAGE // 4)
    await stream.reserve()
    charges = [first]
    while True:
        task = await pending(stream.arrived(MESSAGE // 4))
        if not task.done():
            break
        charges.append(stream.take())
        await stream.reserve()
    assert len(charges) * 3 * MESSAGE // 4 <= budget.held.size_bytes // 4
    charges[0].release()
    await asyncio.wait_for(task, 60)


async def test_a_stream_that_holds_nothing_waits_for_a_bounded_time(monkeypatch):
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.2)
    budget = budget_of()
    for _ in range(2):
        await stream_of(budget)[0].reserve()
    with pytest.raises(ResourceExhaustedError, match="no room"):
        await stream_of(budget)[0].reserve()


async def test_a_newcomer_takes_the_place_of_one_that_sends_nothing(monkeypatch):
    monkeypatch.setattr(module, "_NEWCOMER_SECONDS", 0.1)
    budget = budget_of()
    silent = [stream_of(budget) for _ in range(20)]
    waiting = [await pending(stream.reserve()) for stream, _ in silent]
    newcomer, _ = stream_of(budget)
    await asyncio.wait_for(newcomer.reserve(), 60)
    # It keeps its place until its first frame has come.
    await newcomer.arrived(10)
    newcomer.drop()
    await asyncio.wait_for(newcomer.reserve(), 60)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.7:4312", "10.0.0.7"),
        ("ipv6:%5B::1%5D:4312", "::1"),
        ("ipv6:[::ffff:10.0.0.7]:4312", "10.0.0.7"),
        ("ipv6:%5B2001:db8:0:1:2:3:4:5%5D:4312", "2001:db8:0:1::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4312", "fe80::/64"),
        ("unix:", "unix"),
        ("unix:/run/tandem.sock", "unix"),
        ("strange", "strange"),
    ],
)
def test_a_peer_s_host(peer, host):
    assert host_of(peer) == host


async def test_who_tells_the_size_of_its_frames_needs_no_place_of_the_few():
    budget = budget_of()
    newcomers = [stream_of(budget)[0] for _ in range(2)]
    for each in newcomers:
        await each.reserve()
    # One peer has its half of the places now.
    waiting, _ = stream_of(budget)
    untold = await pending(waiting.reserve())
    assert not untold.done()
    told = StreamBytes(budget, "peer", lambda: None, told_bytes=1000)
    charge = await read(told, 1000)
    assert not untold.done()
    charge.release()
    told.close()
    untold.cancel()
    await asyncio.gather(untold, return_exceptions=True)
    for each in (*newcomers, waiting):
        each.close()
    assert taken(budget) == 0


async def test_a_message_larger_than_was_told_is_read_and_counted_as_it_is():
    budget = budget_of()
    stream = StreamBytes(budget, "peer", lambda: None, told_bytes=10)
    charge = await read(stream, MESSAGE // 2)
    assert budget.held.taken_bytes == 3 * MESSAGE // 2
    # From then on it is known what this stream sends.
    await stream.reserve()
    assert budget.narrow.taken_bytes + budget.wide.taken_bytes > MESSAGE // 2
    charge.release()
    stream.close()
    assert taken(budget) == 0


async def test_who_tells_of_huge_frames_waits_for_a_place_of_the_few():
    budget = budget_of()
    stream = StreamBytes(budget, "peer", lambda: None, told_bytes=MESSAGE)
    await stream.reserve()
    assert budget.wide.taken_bytes == MESSAGE
    stream.close()
