"""Frames that pass a session without a task of their own, and those beside them that do not."""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest

from common.domain.placement import Placement
from protos.tandem.v1 import detector_pb2
from tests.misbehaving import good_answer
from tests.streams import LiveStream, frame, options
from tests.unit.orchestrator.toys import ToyBackbone, dies, failure, refuses, rig, until

FULL = Placement.FULL.node_pair
TRACEPARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@asynccontextmanager
async def served(*nodes):
    """A rig in front of a toy for each of `nodes`, and a client that has its first answer."""
    toys = {node: ToyBackbone() for node in nodes or ("edge",)}
    async with AsyncExitStack() as stack:
        for toy in toys.values():
            await stack.enter_async_context(toy.running())
        orchestra = await stack.enter_async_context(rig(toys))
        address = await stack.enter_async_context(orchestra.serving())
        client = await stack.enter_async_context(LiveStream(address))
        await client.send(options(), frame(0))
        (response,) = await client.receive(1)
        assert response.WhichOneof("result") == "detections"
        client.address = address
        yield tuple(toys.values()), orchestra, client


def all_answer(toys, answer):
    for toy in toys:
        toy.answer = answer


class Holds:
    """A toy's answer to every frame, which waits until it may go; tells which frames have come."""

    def __init__(self):
        self._came, self.go = asyncio.Queue(), asyncio.Event()

    async def __call__(self, frame_id, context):
        self._came.put_nowait(frame_id)
        await self.go.wait()
        return good_answer(frame_id)

    async def first(self):
        return await asyncio.wait_for(self._came.get(), 60)


def session_of(orchestra):
    (session,) = orchestra.sessions.open.values()
    return session


def tasks_of_frames():
    """The tasks that take care of single frames."""
    names = ("_admit_and_answer", "_go_on")
    return [task for task in asyncio.all_tasks() if any(name in repr(task) for name in names)]


def assert_nothing_is_held(orchestra):
    metric = orchestra.resources.metrics.registry.get_sample_value
    assert metric("tandem_in_flight_frames") == 0
    assert sum(orchestra.router.table.in_flight.values()) == 0
    assert orchestra.budget.held.taken_bytes == 0
    assert orchestra.resources.crowd.pool(FULL).taken == 0


async def test_a_usual_frame_needs_no_task_and_an_unusual_one_has_one():
    async with served() as ((toy,), orchestra, client):
        toy.answer = held = Holds()
        await client.send(frame(1))
        assert await held.first() == 1
        assert tasks_of_frames() == []
        assert orchestra.resources.metrics.registry.get_sample_value("tandem_in_flight_frames") == 1
        traced = frame(2)
        traced.frame.traceparent = TRACEPARENT
        await client.send(traced)
        await until(lambda: len(tasks_of_frames()) == 1)
        held.go.set()
        assert [each.frame_id for each in await client.rest()] == [1, 2]
        await until(lambda: not orchestra.sessions.open)
        assert_nothing_is_held(orchestra)


async def test_what_a_session_has_learnt_is_known_once_it_has_answered():
    async with served() as (_, orchestra, client):
        assert session_of(orchestra).status.node_pair == FULL
        assert orchestra.resources.frames.frames_served(FULL) == 1
        await client.send(frame(1))
        await client.receive(1)
        assert orchestra.resources.frames.frames_served(FULL) == 2
        assert_nothing_is_held(orchestra)


async def test_usual_and_unusual_frames_are_answered_in_one_order():
    async def answer(frame_id, context):
        # An error of the frame's own, and one that sends it elsewhere.
        if frame_id % 3 == 1:
            return await refuses(frame_id, context)
        if frame_id % 7 == 2 and frame_id not in failed:
            failed.add(frame_id)
            return failure(frame_id, grpc.StatusCode.INTERNAL)
        return good_answer(frame_id)

    failed = set()
    async with served("edge", "workstation") as (toys, orchestra, client):
        all_answer(toys, answer)
        sent = [frame(number) for number in range(1, 61)]
        for each in sent[::5]:
            each.frame.traceparent = TRACEPARENT
        await client.send(*sent)
        responses = await client.rest()
        assert [each.frame_id for each in responses] == list(range(1, 61))
        for each in responses:
            assert each.HasField("error") == (each.frame_id % 3 == 1), each
        await until(lambda: not orchestra.sessions.open)
        assert_nothing_is_held(orchestra)


async def test_frames_whose_route_dies_before_they_are_answered_are_served_by_another():
    died = []

    async def answer(frame_id, context):
        if not died:
            died.append(frame_id)
            await dies(frame_id, context)
        return good_answer(frame_id)

    async with served("edge", "workstation") as (toys, orchestra, client):
        all_answer(toys, answer)
        await client.send(frame(1), frame(2), frame(3))
        responses = await client.rest()
        assert [each.frame_id for each in responses] == [1, 2, 3]
        assert {each.WhichOneof("result") for each in responses} == {"detections"}
        assert orchestra.router.events.counts.retried_frames >= 1
        await until(lambda: not orchestra.sessions.open)
        assert_nothing_is_held(orchestra)


async def test_a_frame_that_a_stage_answers_wrongly_is_served_by_another():
    wrongly = []

    async def answer(frame_id, context):
        result = good_answer(frame_id)
        if not wrongly:
            wrongly.append(frame_id)
            result.timing.ClearField("transformer")
        return result

    async with served("edge", "workstation") as (toys, orchestra, client):
        all_answer(toys, answer)
        await client.send(frame(1), frame(2))
        responses = await client.rest()
        assert [each.WhichOneof("result") for each in responses] == ["detections"] * 2
        assert wrongly == [1]
        assert sum(toy.frame_ids.count(1) for toy in toys) == 2
        assert responses[0].timing.HasField("transformer")


async def test_a_frame_on_a_route_that_is_given_up_is_answered_once():
    async with served("edge", "workstation") as (toys, orchestra, client):
        came = asyncio.Queue()

        async def answer(frame_id, context):
            came.put_nowait(frame_id)
            if len(held) < 1:
                held.append(frame_id)
                await asyncio.Event().wait()
            return good_answer(frame_id)

        held = []
        all_answer(toys, answer)
        await client.send(frame(1), frame(2))
        assert await asyncio.wait_for(came.get(), 60) == 1
        session_of(orchestra).dispatcher.check_progress(time.monotonic() + 3600.0)
        responses = await client.rest()
        assert [each.frame_id for each in responses] == [1, 2]
        assert [each.WhichOneof("result") for each in responses] == ["detections"] * 2
        await until(lambda: not orchestra.sessions.open)
        assert_nothing_is_held(orchestra)


async def test_a_client_that_leaves_releases_its_usual_frames():
    async with served() as ((toy,), orchestra, client):
        toy.answer = held = Holds()
        await client.send(frame(1), frame(2))
        await held.first()
        await until(lambda: session_of(orchestra).status.frames_in_flight == 2)
        client.call.cancel()
        await until(lambda: not orchestra.sessions.open)
        assert_nothing_is_held(orchestra)
        assert tasks_of_frames() == []


async def test_a_draining_server_answers_its_usual_frames():
    async with served() as ((toy,), orchestra, client):
        toy.answer = held = Holds()
        await client.send(frame(1))
        await held.first()
        orchestra.draining.set()
        held.go.set()
        (response,) = await client.receive(1)
        assert (response.frame_id, response.WhichOneof("result")) == (1, "detections")
        with pytest.raises(grpc.aio.AioRpcError, match="draining"):
            await client.rest()
        assert_nothing_is_held(orchestra)


async def test_a_client_that_takes_no_answers_holds_up_nobody_and_no_route():
    async def answer(frame_id, context):
        # As large as answers may be, so that few of them fit into what the transport buffers.
        result = good_answer(frame_id)
        for _ in range(5_000):
            result.detections.detections.add(category_name="x" * 30, score=1.0)
        return result

    async with served() as ((toy,), orchestra, client):
        toy.answer = answer
        slow = session_of(orchestra)
        await client.send(*(frame(number) for number in range(1, 13)))
        await until(lambda: len(toy.frame_ids) >= 3)
        async with LiveStream(client.address) as other:
            await other.send(options(), *(frame(number) for number in range(20)))
            assert [each.frame_id for each in await other.rest()] == list(range(20))
        # What its route has answered waits in the session, so that the route is not blamed.
        await until(lambda: sum(orchestra.router.table.in_flight.values()) == 0)
        slow.dispatcher.check_progress(time.monotonic() + 3600.0)
        assert [each.frame_id for each in await client.rest()] == list(range(1, 13))
        assert orchestra.router.events.counts.failovers == {}


async def test_of_a_live_stream_usual_frames_leave_their_place_in_the_gate():
    async with served() as ((toy,), orchestra, client):
        async with LiveStream(client.address) as live:
            await live.send(options(overload=detector_pb2.OVERLOAD_DROP_OLDEST))
            for number in range(8):
                await live.send(frame(number))
                (response,) = await live.receive(1)
                assert response.WhichOneof("result") == "detections"
        await client.rest()
        await until(lambda: not orchestra.sessions.open)
        assert_nothing_is_held(orchestra)
