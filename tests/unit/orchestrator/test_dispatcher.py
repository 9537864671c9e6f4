"""A frame finds its way over routes that fail, and servers are blamed for their own faults only."""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from common.domain.errors import InternalError, ResourceExhaustedError, UnavailableError
from common.domain.placement import NodePair, Placement
from services.orchestrator.routing.circuit_breaker import FAILURES_IN_A_ROW
from services.orchestrator.session.attempts import MOST_REJECTIONS
from services.orchestrator.session.deadlines import FrameWeight
from tests.misbehaving import good_answer
from tests.unit.orchestrator.toys import (
    MIRRORED_FROM,
    ToyBackbone,
    dies,
    fails,
    frame,
    hangs,
    has_no_room,
    refuses,
    rig,
    serves,
    until,
)

WEIGHT = FrameWeight(100, 1000)


@asynccontextmanager
async def running(toys, **changes):
    """A rig in front of `toys`, which it starts."""
    async with AsyncExitStack() as stack:
        for toy in toys.values():
            await stack.enter_async_context(toy.running())
        yield await stack.enter_async_context(rig(toys, **changes))


def two_toys():
    return {"edge": ToyBackbone(), "workstation": ToyBackbone()}


def serve(dispatcher, frame_id):
    return asyncio.wait_for(dispatcher.serve(frame(frame_id), WEIGHT), 30)


def available(orchestra, node):
    """Whether frames may go to a node's backbone."""
    routes = orchestra.router.table.routes
    backbone = orchestra.backbones[node]
    return all(orchestra.router.table.is_available(each) for each in routes if each.uses(backbone))


def own_ids(toy):
    return [each for each in toy.frame_ids if each < MIRRORED_FROM]


def first_and_other(orchestra):
    """The nodes of the backbones that the first frame goes to, and does not."""
    first = orchestra.router.active_pair().backbone
    return first, next(node for node in orchestra.backbones if node != first)


@asynccontextmanager
async def two_backbones():
    """Two toys by node, what runs before them, and the nodes of `first_and_other`."""
    toys = two_toys()
    async with running(toys) as orchestra:
        yield (toys, orchestra, *first_and_other(orchestra))


async def test_a_frame_whose_route_fails_is_served_by_another():
    async with two_backbones() as (toys, orchestra, first, other):
        toys[first].answer = dies
        dispatcher = orchestra.dispatcher()
        route, result = await serve(dispatcher, 7)
        assert route.backbone.node == other
        assert result.WhichOneof("result") == "detections"
        assert (toys[first].frame_ids, toys[other].frame_ids) == ([7], [7])
        assert orchestra.router.events.counts.retried_frames == 1
        # A route that was lost is nobody's fault: the circuit breaker does not count it.
        assert available(orchestra, first)
        await dispatcher.close()


async def test_a_server_is_blamed_for_frames_that_another_one_has_served():
    async with two_backbones() as (toys, orchestra, first, other):
        toys[first].answer = fails
        dispatcher = orchestra.dispatcher()
        for number in range(FAILURES_IN_A_ROW):
            assert available(orchestra, first)
            route, _ = await serve(dispatcher, number)
            assert route.backbone.node == other
        assert not available(orchestra, first)
        assert available(orchestra, other)
        await dispatcher.close()


async def test_a_server_is_not_blamed_for_frames_that_another_one_refused():
    async with two_backbones() as (toys, orchestra, first, other):
        toys[first].answer, toys[other].answer = fails, refuses
        dispatcher = orchestra.dispatcher()
        for number in range(2 * FAILURES_IN_A_ROW):
            _, result = await serve(dispatcher, number)
            assert result.error.message == "no picture"
        assert toys[first].frame_ids == toys[other].frame_ids == list(range(6))
        assert available(orchestra, first)
        await dispatcher.close()


async def test_a_server_is_not_blamed_for_frames_that_fail_everywhere():
    toys = two_toys()
    for toy in toys.values():
        toy.answer = fails
    async with running(toys) as orchestra:
        dispatcher = orchestra.dispatcher()
        for number in range(2 * FAILURES_IN_A_ROW):
            with pytest.raises(InternalError, match="taken to be the frame's"):
                await serve(dispatcher, number)
        assert available(orchestra, "edge")
        assert available(orchestra, "workstation")
        await dispatcher.close()


async def test_a_frame_that_two_routes_failed_with_is_shown_to_no_third():
    toys = {name: ToyBackbone() for name in ("edge", "workstation", "attic")}
    for toy in toys.values():
        toy.answer = dies
    async with running(toys) as orchestra:
        dispatcher = orchestra.dispatcher()
        with pytest.raises(InternalError, match="not sent a third time"):
            await serve(dispatcher, 1)
        assert sum(len(toy.frame_ids) for toy in toys.values()) == 2
        # It says nothing of the routes: the next frame may take each of them at once.
        for toy in toys.values():
            toy.answer = serves
        table = orchestra.router.table
        assert all(table.is_available(route) for route in table.routes)
        await serve(dispatcher, 2)
        await dispatcher.close()


async def test_each_outage_has_its_whole_time():
    patience_seconds = 2.0
    toy = ToyBackbone()
    async with running({"edge": toy}, unavailable_after_seconds=patience_seconds) as orchestra:
        dispatcher = orchestra.dispatcher()
        for number in range(2):
            orchestra.set_health("edge", False)
            waiting = asyncio.ensure_future(serve(dispatcher, number))
            done, _ = await asyncio.wait([waiting], timeout=0.6 * patience_seconds)
            assert not done
            orchestra.set_health("edge", True)
            await waiting
        orchestra.set_health("edge", False)
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="unavailable: backbone on edge"):
            await serve(dispatcher, 2)
        assert 0.9 * patience_seconds < time.monotonic() - began < 15 * patience_seconds
        # The outage goes on: the next frame does not wait for as long again.
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(dispatcher.serve(frame(3), WEIGHT), 0.9 * patience_seconds)
        await dispatcher.close()


async def test_a_frame_that_is_given_up_leaves_no_outage_behind():
    patience_seconds = 0.6
    toys = two_toys()
    for toy in toys.values():
        toy.answer = dies
    async with running(toys, unavailable_after_seconds=patience_seconds) as orchestra:
        dispatcher = orchestra.dispatcher()
        with pytest.raises(InternalError, match="not sent a third time"):
            await serve(dispatcher, 1)
        for node in toys:
            orchestra.set_health(node, False)
        # The first failure was more than the 0.2 s ago that a suspect waits.
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            await serve(dispatcher, 2)
        assert time.monotonic() - began > 0.9 * patience_seconds
        await dispatcher.close()


async def test_a_frame_waits_for_nothing_once_the_server_drains():
    toy = ToyBackbone()
    async with running({"edge": toy}, unavailable_after_seconds=60.0) as orchestra:
        orchestra.set_health("edge", False)
        orchestra.draining.set()
        dispatcher = orchestra.dispatcher()
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(dispatcher.serve(frame(1), WEIGHT), 30)
        await dispatcher.close()


async def test_a_frame_that_no_stage_has_room_for_is_answered_so():
    toy = ToyBackbone()
    toy.answer = has_no_room
    async with running({"edge": toy}) as orchestra:
        dispatcher = orchestra.dispatcher()
        with pytest.raises(ResourceExhaustedError, match="no room"):
            await serve(dispatcher, 1)
        assert len(toy.frame_ids) == MOST_REJECTIONS
        await dispatcher.close()


async def test_a_new_route_serves_a_mirrored_request_before_the_first_frame():
    toys = two_toys()
    async with running(toys) as orchestra:
        dispatcher = orchestra.dispatcher()
        orchestra.router.set_operator_pair(Placement.FULL.node_pair)
        await serve(dispatcher, 0)
        orchestra.router.set_operator_pair(Placement.WORKSTATION.node_pair)
        number = 0
        while not own_ids(toys["workstation"]):
            number += 1
            await serve(dispatcher, number)
        seen = toys["workstation"].frame_ids
        assert seen[0] >= MIRRORED_FROM
        # It is the copy of a frame that the other route had served before.
        assert own_ids(toys["edge"]) == list(range(number))
        assert own_ids(toys["workstation"]) == [number]
        await dispatcher.close()


async def test_a_route_that_fails_a_mirrored_request_gets_no_frame_and_no_further_one():
    toys = two_toys()
    async with running(toys, mirror_share=0.5) as orchestra:
        first, other = first_and_other(orchestra)
        toys[other].answer = fails
        dispatcher = orchestra.dispatcher()
        for number in range(20):
            orchestra.router.tick()
            route, result = await serve(dispatcher, number)
            assert route.backbone.node == first
            orchestra.router.served(route, result.timing, backlogged=False)
        assert own_ids(toys[other]) == []
        # One along each of the two routes through that backbone; a third would open the breaker.
        assert 1 <= len(toys[other].frame_ids) <= 2
        assert available(orchestra, other)
        await dispatcher.close()


async def test_frames_on_a_silent_stage_are_sent_elsewhere():
    async with two_backbones() as (toys, orchestra, first, other):
        toys[first].answer = hangs
        dispatcher = orchestra.dispatcher()
        waiting = asyncio.ensure_future(serve(dispatcher, 1))
        await until(lambda: toys[first].frame_ids)
        orchestra.set_health(first, False, fault="silent")
        dispatcher.stage_silent(orchestra.backbones[first], "has not answered")
        route, _ = await waiting
        assert route.backbone.node == other
        await dispatcher.close()


async def test_a_route_without_progress_is_given_up_by_its_session_alone():
    async with two_backbones() as (toys, orchestra, first, other):
        toys[first].answer = hangs
        dispatcher = orchestra.dispatcher()
        waiting = asyncio.ensure_future(serve(dispatcher, 1))
        await until(lambda: toys[first].frame_ids)
        dispatcher.check_progress(time.monotonic() + 1.0)
        assert not waiting.done()
        # A cold engine may take ten seconds for its first frame.
        dispatcher.check_progress(time.monotonic() + 11.0)
        route, _ = await waiting
        assert route.backbone.node == other
        assert available(orchestra, first)
        await dispatcher.close()


async def test_a_client_that_asked_for_a_pair_is_never_moved():
    toys = two_toys()
    async with running(toys, unavailable_after_seconds=0.3) as orchestra:
        dispatcher = orchestra.dispatcher(requested_pair=NodePair("workstation", "edge"))
        route, _ = await serve(dispatcher, 1)
        assert route.node_pair == NodePair("workstation", "edge")
        orchestra.set_health("workstation", False)
        with pytest.raises(UnavailableError, match="backbone on workstation"):
            await serve(dispatcher, 2)
        assert not toys["edge"].frame_ids
        await dispatcher.close()


async def test_streams_that_no_frame_takes_are_closed_except_the_current_one():
    toys = two_toys()
    async with running(toys) as orchestra:
        ended = []

        async def serves_and_tells(frame_id, context):
            context.add_done_callback(lambda _: ended.append(frame_id))
            return good_answer(frame_id)

        first, _ = first_and_other(orchestra)
        toys[first].answer = serves_and_tells
        dispatcher = orchestra.dispatcher()
        await serve(dispatcher, 1)
        await dispatcher.leave_idle_routes(time.monotonic() + 60.0)
        await serve(dispatcher, 2)
        assert not ended
        toys[first].answer = dies
        await serve(dispatcher, 3)
        await dispatcher.leave_idle_routes(time.monotonic() + 60.0)
        await until(lambda: ended)
        await dispatcher.close()
