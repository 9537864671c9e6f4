"""Sessions of a crowd take turns; few sessions, and those of which nothing is answered, do not."""

import asyncio
import time

import pytest

from common.domain.placement import NodePair
from services.orchestrator.session.crowd import Crowd, SessionTurns
from services.orchestrator.session.crowd_window import CrowdWindow
from services.orchestrator.session.window import Transfer
from tests.unit.orchestrator.test_window import Pipeline

PAIR, OTHER = NodePair("edge", "edge"), NodePair("edge", "workstation")


def crowd_of(count):
    """A crowd and its sessions."""
    crowd = Crowd()
    sessions = [SessionTurns(crowd) for _ in range(count)]
    for session in sessions:
        session.join(PAIR)
    return crowd, sessions


async def asked(session):
    """Begin to take a turn, and let it come as far as it can."""
    task = asyncio.ensure_future(session.take())
    await asyncio.sleep(0)
    return task


async def test_few_sessions_wait_for_no_turn():
    _, sessions = crowd_of(8)
    assert all(session.take_at_once() for session in sessions for _ in range(16))


async def test_each_session_has_one_turn_after_the_other():
    crowd, (busy, *others) = crowd_of(10)
    held = [busy.take_at_once() for _ in range(crowd.pool(PAIR).limit)]
    waiting = [(0, await asked(busy)) for _ in range(3)]
    waiting += [(number, await asked(session)) for number, session in enumerate(others[:2], 1)]
    served = []
    while waiting:
        held.pop(0).leave()
        await asyncio.sleep(0)
        done = [each for each in waiting if each[1].done()]
        served += [number for number, _ in done]
        waiting = [each for each in waiting if each not in done]
        held += [task.result() for _, task in done]
    assert served == [0, 1, 2, 0, 0]


async def test_sessions_of_other_nodes_wait_for_turns_of_their_own():
    crowd, sessions = crowd_of(10)
    held = [sessions[0].take_at_once() for _ in range(crowd.pool(PAIR).limit)]
    assert sessions[1].take_at_once() is None
    sessions[1].join(OTHER)
    assert sessions[1].take_at_once() is not None
    assert len(held) == crowd.pool(PAIR).taken


async def test_frames_that_wait_go_with_their_session_to_other_nodes():
    crowd, sessions = crowd_of(10)
    held = [sessions[0].take_at_once() for _ in range(crowd.pool(PAIR).limit)]
    waiting = await asked(sessions[1])
    assert not waiting.done()
    sessions[1].join(OTHER)
    await waiting
    held.pop().leave()
    assert crowd.pool(PAIR).taken == len(held)


async def test_the_place_of_a_session_that_ends_is_free():
    crowd, sessions = crowd_of(9)
    held = [sessions[0].take_at_once() for _ in range(crowd.pool(PAIR).limit)]
    waiting = await asked(sessions[1])
    sessions[2].leave_pool()
    await waiting
    assert crowd.pool(PAIR).taken == len(held) + 1


async def test_while_nothing_is_answered_nobody_waits():
    crowd, sessions = crowd_of(20)
    held = [sessions[0].take_at_once() for _ in range(crowd.pool(PAIR).limit)]
    waiting = [await asked(session) for session in sessions[1:]]
    crowd.look(time.monotonic() + 1.0)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    crowd.look(time.monotonic() + 2.1)
    await asyncio.gather(*waiting)
    assert sessions[1].take_at_once() is not None
    # Answers come again: turns are taken as before.
    held.pop().leave()
    assert sessions[1].take_at_once() is None


async def test_nothing_is_kept_of_nodes_that_nobody_uses():
    crowd, sessions = crowd_of(2)
    pool = crowd.pool(PAIR)
    for session in sessions:
        session.leave_pool()
    crowd.look(time.monotonic())
    assert crowd.pool(PAIR) is not pool


class Limit:
    """A crowd's window as the simulated pipeline asks it."""

    def __init__(self, execute_seconds):
        self._found = CrowdWindow()
        self._execute_seconds = execute_seconds

    def pause(self):
        """Time begins anew."""
        self._found.pause()

    @property
    def window(self):
        return self._found.frames

    def observe(self, now, latency_seconds, queue_seconds, transfers, _execute_seconds):
        self._found.observe(
            *(now, latency_seconds, queue_seconds, self._execute_seconds, transfers)
        )


@pytest.mark.parametrize(
    ("service_seconds", "delay_seconds", "most_frames"),
    [([0.005, 0.005], 0.001, 26), ([0.4, 0.2], 0.0, 5), ([0.020, 0.020], 0.1, 16)],
)
def test_the_limit_keeps_engines_busy_and_frames_wait_for_a_moment(
    service_seconds, delay_seconds, most_frames
):
    limit = Limit(sum(service_seconds))
    pipeline = Pipeline(service_seconds, delay_seconds, limit)
    throughput = pipeline.run(2000)
    assert throughput == pytest.approx(1 / max(service_seconds), rel=0.02)
    assert limit.window <= most_frames


def test_the_limit_shrinks_when_frames_only_wait():
    limit = Limit(0.01)
    Pipeline([0.005, 0.005], 0.1, limit).run(2000)
    largest = limit.window
    limit.pause()
    Pipeline([0.1, 0.01], 0.0, limit).run(600)
    assert limit.window <= 5 < largest


def test_frames_that_wait_elsewhere_do_not_make_it_grow_without_end():
    limit = Limit(0.002)
    # Two thirds of a second on the link for each 100 frames that are under way.
    Pipeline([0.001, 0.001], 0.001, limit, (10_000,), 1.5e6).run(4000)
    alone_seconds = 0.001 + 0.001 + 0.001 + 10_000 / 1.5e6
    assert limit.window <= 8 * alone_seconds / (10_000 / 1.5e6)


def test_a_transfer_that_is_only_late_counts_as_work():
    window = CrowdWindow()
    now = 0.0
    for number in range(400):
        now += 0.02
        late = Transfer(1000, 0.001 if number % 50 == 0 else 0.03)
        window.observe(now, 0.06, 0.0, 0.02, (late, Transfer(0, 0.0)))
    assert window.frames > 4
