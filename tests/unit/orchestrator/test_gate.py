"""The newest frame wins, also while its session waits for its turn among many."""

import asyncio

from common.domain.placement import NodePair
from services.orchestrator.session.crowd import Crowd, SessionTurns
from services.orchestrator.session.gate import NewestWinsGate

PAIR = NodePair("edge", "edge")


def gate_of(slots):
    """A gate of a session that is in no crowd."""
    return NewestWinsGate(slots, SessionTurns(Crowd()))


async def entered(gate):
    """Begin to enter, and let it come as far as it can."""
    task = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(0)
    return task


async def test_a_newer_frame_takes_the_place_of_the_one_that_waits():
    gate = gate_of(1)
    served, waiting = await entered(gate), await entered(gate)
    assert not waiting.done()
    newest = await entered(gate)
    assert await waiting is None
    assert not newest.done()
    gate.leave(served.result())
    assert await newest is not None


async def test_a_slot_given_back_is_free_when_nobody_waits():
    gate = gate_of(2)
    first, second = await gate.enter(), await gate.enter()
    gate.leave(first)
    third = await gate.enter()
    waiting = await entered(gate)
    assert not waiting.done()
    gate.leave(second)
    gate.leave(third)
    assert await waiting is not None
    assert await gate.enter() is not None


async def test_a_frame_that_gives_up_does_not_take_a_slot_with_it():
    gate = gate_of(1)
    turn = await gate.enter()
    waiting = await entered(gate)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    gate.leave(turn)
    assert await gate.enter() is not None


async def test_slots_can_be_added_and_taken_away_while_they_are_in_use():
    gate = gate_of(1)
    first = await gate.enter()
    waiting = await entered(gate)
    gate.resize(2)
    second = await waiting
    gate.resize(1)
    waiting = await entered(gate)
    gate.leave(first)
    assert not waiting.done()
    gate.leave(second)
    assert await waiting is not None


async def test_in_a_crowd_the_newest_frame_gets_its_sessions_turn():
    crowd = Crowd()
    pool = crowd.pool(PAIR)
    sessions = [SessionTurns(crowd) for _ in range(10)]
    for session in sessions:
        session.join(PAIR)
    held = [sessions[0].take_at_once() for _ in range(pool.limit)]
    gate = NewestWinsGate(2, sessions[1])
    outdated, newest = await entered(gate), await entered(gate)
    assert await outdated is None
    assert gate.crowded
    held.pop().leave()
    turn = await newest
    assert turn is not None
    gate.leave(turn)
    assert pool.taken == len(held)


async def test_a_frame_given_up_just_as_it_gets_its_turn_gives_both_back():
    crowd = Crowd()
    pool = crowd.pool(PAIR)
    sessions = [SessionTurns(crowd) for _ in range(10)]
    for session in sessions:
        session.join(PAIR)
    held = [sessions[0].take_at_once() for _ in range(pool.limit)]
    gate = NewestWinsGate(1, sessions[1])
    live, lossless = await entered(gate), asyncio.ensure_future(sessions[2].take())
    await asyncio.sleep(0)
    for turn in held:
        turn.leave()
    live.cancel()
    lossless.cancel()
    await asyncio.gather(live, lossless, return_exceptions=True)
    assert pool.taken == 0
    assert await gate.enter() is not None
