"""Frames are sent in the order in which they took their turns, whoever waits, fails or is ended."""

import asyncio

import pytest

from services.orchestrator.session.gate import EarliestFirst
from services.orchestrator.session.turns import Turns


async def enter(turn, name, entered, go_on=None):
    async with turn:
        entered.append(name)
        if go_on is not None:
            await go_on.wait()
        if name == "fails":
            raise ValueError(name)


async def settled():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_turns_are_in_the_order_in_which_they_were_taken():
    turns, entered = Turns(), []
    taken = [turns.take() for _ in range(4)]
    tasks = [
        asyncio.ensure_future(enter(taken[each], each, entered)) for each in reversed(range(4))
    ]
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert entered == [0, 1, 2, 3]


async def test_one_that_fails_lets_the_next_one_in():
    turns, entered = Turns(), []
    first, second = turns.take(), turns.take()
    with pytest.raises(ValueError, match="fails"):
        await enter(first, "fails", entered)
    await asyncio.wait_for(enter(second, "second", entered), 60)


async def test_one_that_is_ended_while_it_waits_lets_nobody_in_before_those_in_front():
    turns, entered, go_on = Turns(), [], asyncio.Event()
    first, second, third = turns.take(), turns.take(), turns.take()
    tasks = [
        asyncio.ensure_future(enter(first, "first", entered, go_on)),
        asyncio.ensure_future(enter(second, "second", entered)),
        asyncio.ensure_future(enter(third, "third", entered)),
    ]
    await settled()
    tasks[1].cancel()
    await settled()
    assert entered == ["first"]
    go_on.set()
    await asyncio.wait_for(tasks[2], 60)
    assert entered == ["first", "third"]


async def test_frames_that_are_sent_again_go_in_the_order_of_their_ids():
    order, passed = EarliestFirst(), []

    async def pass_through(frame_id):
        await order.wait(frame_id)
        passed.append(frame_id)
        await asyncio.sleep(0)
        order.leave(frame_id)

    for frame_id in (6, 5, 8, 7):
        order.expect(frame_id)
    await asyncio.wait_for(asyncio.gather(*map(pass_through, (8, 6, 7, 5))), 60)
    assert passed == [5, 6, 7, 8]
    # One that was never expected leaves as well, and nobody waits for it.
    order.leave(4)
    order.expect(9)
    await asyncio.wait_for(pass_through(9), 60)
