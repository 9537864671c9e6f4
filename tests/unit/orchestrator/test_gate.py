"""The newest frame wins."""

import asyncio

from services.orchestrator.session.gate import NewestWinsGate


async def entered(gate):
    """Begin to enter, and let it come as far as it can."""
    task = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(0)
    return task


async def test_a_newer_frame_takes_the_place_of_the_one_that_waits():
    gate = NewestWinsGate(1)
    served, waiting = await entered(gate), await entered(gate)
    assert served.result() is True
    assert not waiting.done()
    newest = await entered(gate)
    assert await waiting is False
    assert not newest.done()
    gate.leave()
    assert await newest is True


async def test_a_slot_given_back_is_free_when_nobody_waits():
    gate = NewestWinsGate(2)
    assert [await gate.enter(), await gate.enter()] == [True, True]
    gate.leave()
    assert await gate.enter() is True
    waiting = await entered(gate)
    assert not waiting.done()
    gate.leave()
    gate.leave()
    assert await waiting is True
    assert await gate.enter() is True


async def test_a_frame_that_gives_up_does_not_take_a_slot_with_it():
    gate = NewestWinsGate(1)
    await gate.enter()
    waiting = await entered(gate)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    gate.leave()
    assert await gate.enter() is True


async def test_slots_can_be_added_and_taken_away_while_they_are_in_use():
    gate = NewestWinsGate(1)
    await gate.enter()
    waiting = await entered(gate)
    gate.resize(2)
    assert await waiting is True
    gate.resize(1)
    waiting = await entered(gate)
    gate.leave()
    assert not waiting.done()
    gate.leave()
    assert await waiting is True
