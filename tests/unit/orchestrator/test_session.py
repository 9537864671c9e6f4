"""One client's stream in front of toy backbones: checked, admitted, answered once and in order."""

import asyncio
import time
from contextlib import asynccontextmanager

import grpc
import pytest

from common.domain.placement import Placement
from protos.tandem.v1 import detector_pb2, tensor_pb2
from services.orchestrator.session.window import MIN_WINDOW
from tests.misbehaving import good_answer
from tests.streams import LiveStream, detect, detect_until_error, frame, options
from tests.unit.orchestrator.toys import ToyBackbone, fails, refuses, rig, until

FULL = Placement.FULL.node_pair


class Held:
    """A backbone's answers, each given once the test lets it go."""

    def __init__(self):
        self.came = asyncio.Queue()
        self._go = asyncio.Semaphore(0)

    async def answer(self, frame_id, context):
        self.came.put_nowait(frame_id)
        await self._go.acquire()
        return good_answer(frame_id)

    def let_go(self, frames=1):
        for _ in range(frames):
            self._go.release()

    async def next_id(self):
        return await asyncio.wait_for(self.came.get(), 60)


@asynccontextmanager
async def served(**changes):
    toy = ToyBackbone()
    async with toy.running(), rig({"edge": toy}, **changes) as orchestra, orchestra.serving() as at:
        yield toy, orchestra, at


async def test_every_frame_is_answered_once_in_order_with_where_its_time_went():
    async with served() as (toy, orchestra, address):
        responses = await detect(address, [options(), *(frame(number) for number in range(20))])
        assert [each.frame_id for each in responses] == toy.frame_ids == list(range(20))
        for response in responses:
            assert response.placement == detector_pb2.PLACEMENT_FULL
            assert response.timing.received_at_seconds > 0
            assert response.timing.total_seconds >= response.timing.backbone.transfer_seconds > 0
        assert orchestra.resources.frames.frames_served(FULL) == 20


async def test_options_are_optional():
    async with served() as (_, _, address):
        (response,) = await detect(address, [frame(5)])
        assert response.frame_id == 5


@pytest.mark.parametrize(
    ("requests", "words", "answered"),
    [
        ([options(), frame(3), frame(3)], "frame id 3 does not increase: 3 came before", 1),
        ([frame(3), frame(2)], "frame id 2 does not increase: 3 came before", 1),
        ([frame(3), options()], "after frame 3: options have to come first, once", 1),
        ([options(), options()], "after frame -1: options have to come first, once", 0),
        ([options(score_threshold=1.5)], "score_threshold 1.5 is not within 0 to 1", 0),
        ([options(overload=9)], "unknown overload policy 9", 0),
        ([options(codec=99)], "unknown codec 99", 0),
        ([options(backbone_node="edge")], "both, or none", 0),
    ],
)
async def test_a_stream_that_breaks_the_rules_ends_after_the_answers_before(
    requests, words, answered
):
    async with served() as (_, _, address):
        responses, ending = await detect_until_error(address, requests)
        assert len(responses) == answered
        assert ending.code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in ending.details


async def test_a_frame_that_is_refused_ends_nothing_but_itself():
    async with served() as (toy, orchestra, address):

        async def refuses_the_second(frame_id, context):
            return await refuses(frame_id, context) if frame_id == 1 else good_answer(frame_id)

        toy.answer = refuses_the_second
        responses = await detect(address, [options(), frame(0), frame(1), frame(2)])
        kinds = [each.WhichOneof("result") for each in responses]
        assert kinds == ["detections", "error", "detections"]
        assert responses[1].error.message == "no picture"
        assert responses[1].timing.total_seconds > 0
        assert orchestra.resources.frames.frames_served(FULL) == 2


async def test_the_words_of_a_failed_engine_go_to_no_client():
    async with served() as (toy, _, address):
        toy.answer = fails
        (response,) = await detect(address, [options(), frame(1)])
        assert response.error.code == grpc.StatusCode.INTERNAL.value[0]


async def test_no_more_frames_are_in_flight_than_the_window_has_slots():
    async with served() as (toy, orchestra, address):
        held = Held()
        toy.answer = held.answer
        async with LiveStream(address) as client:
            await client.send(options(), *(frame(number) for number in range(5)))
            assert await held.next_id() == 0
            (session,) = orchestra.sessions.open.values()
            # The toy takes one at a time; the rest waits in the session, as far as it has slots.
            await until(lambda: session.status.frames_in_flight == MIN_WINDOW)
            metric = orchestra.resources.metrics.registry.get_sample_value
            assert metric("tandem_window_frames") == MIN_WINDOW
            held.let_go(5)
            assert [each.frame_id for each in await client.rest()] == list(range(5))
            assert metric("tandem_window_frames") == 0


async def test_of_a_live_stream_the_newest_frame_wins():
    async with served() as (toy, orchestra, address):
        held = Held()
        toy.answer = held.answer
        async with LiveStream(address) as client:
            await client.send(options(overload=detector_pb2.OVERLOAD_DROP_OLDEST))
            await client.send(*(frame(number) for number in range(6)))
            assert await held.next_id() == 0
            (session,) = orchestra.sessions.open.values()
            await until(lambda: session.status.frames_in_flight == 6)
            held.let_go(6)
            responses = await client.rest()
            assert [each.frame_id for each in responses] == list(range(6))
            kinds = [each.WhichOneof("result") for each in responses]
            # Two are served at a time and one waits, in whose place the next ones come.
            assert kinds == ["detections"] * 2 + ["dropped"] * 3 + ["detections"]


async def test_a_draining_server_answers_what_it_has_read_and_no_more():
    async with served() as (toy, orchestra, address):
        held = Held()
        toy.answer = held.answer
        async with LiveStream(address) as client:
            await client.send(options(), frame(0))
            await held.next_id()
            orchestra.draining.set()
            held.let_go()
            (response,) = await client.receive(1)
            assert response.frame_id == 0
            with pytest.raises(grpc.aio.AioRpcError, match="draining"):
                await client.rest()
        assert not orchestra.sessions.open


async def test_a_client_that_leaves_takes_its_session_along():
    async with served() as (toy, orchestra, address):
        held = Held()
        toy.answer = held.answer
        async with LiveStream(address) as client:
            await client.send(options(), frame(0))
            await held.next_id()
            assert len(orchestra.sessions.open) == 1
        await until(lambda: not orchestra.sessions.open)
        assert sum(orchestra.router.table.in_flight.values()) == 0


async def test_a_node_that_is_not_configured_is_the_clients_mistake():
    async with served() as (_, _, address):
        placement = detector_pb2.PLACEMENT_WORKSTATION
        (response,) = await detect(address, [options(placement=placement), frame(1)])
        assert response.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
        assert "backbone on workstation" in response.error.message


async def test_a_frame_waits_for_the_other_half_while_stages_change_over():
    async with served() as (toy, orchestra, address):
        toy.refused.add(tensor_pb2.CODEC_UNSPECIFIED)
        orchestra.resources.models.changed(orchestra.backbones["edge"], time.monotonic())
        asked = asyncio.ensure_future(detect(address, [options(), frame(1)]))
        # At once, once more since what is known may be a moment old, and then again.
        await until(lambda: len(toy.openings) > 2)
        assert not asked.done()
        toy.refused.clear()
        (response,) = await asyncio.wait_for(asked, 60)
        assert response.WhichOneof("result") == "detections"


@pytest.mark.parametrize("changed_seconds_ago", [0, 1000])
async def test_halves_that_do_not_match_are_told_at_once_or_after_the_usual_wait(
    changed_seconds_ago,
):
    # Long enough for a second opening on a slow machine.
    async with served(unavailable_after_seconds=1.5) as (toy, orchestra, address):
        toy.refused.add(tensor_pb2.CODEC_UNSPECIFIED)
        changed_at = time.monotonic() - changed_seconds_ago
        orchestra.resources.models.changed(orchestra.backbones["edge"], changed_at)
        (response,) = await detect(address, [options(), frame(1)])
        assert response.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
        assert (len(toy.openings) > 1) == (changed_seconds_ago == 0)


async def test_the_options_of_a_stream_reach_the_stage():
    async with served() as (toy, orchestra, address):
        chosen = options(score_threshold=0.25, max_detections=7, codec=tensor_pb2.CODEC_INT8)
        await detect(address, [chosen, frame(1)])
        await detect(address, [frame(1)])
        (asked, left_out) = toy.openings
        assert asked.downstream_node == "edge"
        assert asked.codec == tensor_pb2.CODEC_INT8
        assert (asked.context.score_threshold, asked.context.max_detections) == (0.25, 7)
        assert asked.context.sender == "orchestrator"
        assert asked.context.session_id != left_out.context.session_id
        # What was left out is left to the stage, which knows the defaults.
        assert not left_out.context.HasField("score_threshold")
        assert (left_out.codec, left_out.context.max_detections) == (0, 0)
