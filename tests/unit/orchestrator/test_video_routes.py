"""Wherever a frame of video goes, the decoder there gets all that it needs, once and in order."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest

from common.domain.errors import InternalError
from common.domain.placement import Placement
from common.domain.video import VideoCodec, VideoFormat
from services.orchestrator.session.deadlines import FrameWeight
from tests.misbehaving import good_answer
from tests.unit.orchestrator.toys import (
    MIRRORED,
    MIRRORED_FROM,
    ToyBackbone,
    Video,
    dies,
    fails,
    has_no_room,
    loses_its_decoder,
    numbers_of,
    rig,
)

WEIGHT = FrameWeight(10, 0)
FULL, REMOTE = Placement.FULL.node_pair, Placement.WORKSTATION.node_pair


@asynccontextmanager
async def watching(*nodes, **changes):
    """Toys by node, what runs before them, and a session's video."""
    toys = {node: ToyBackbone() for node in nodes}
    async with AsyncExitStack() as stack:
        for toy in toys.values():
            await stack.enter_async_context(toy.running())
        orchestra = await stack.enter_async_context(rig(toys, **changes))
        orchestra.router.set_operator_pair(FULL)
        dispatcher = orchestra.dispatcher(video=VideoFormat(VideoCodec.H264))
        video = Video(dispatcher.video)
        yield toys, orchestra, dispatcher, video
        await dispatcher.close()
        for toy in toys.values():
            for came in toy.streams:
                video.assert_decodable(came)


def serve(dispatcher, video, frame_id, key_frame=False):
    """Serve the next frame; its answer is waited for elsewhere."""
    frame, place = video.frame(frame_id, key_frame)
    return asyncio.ensure_future(asyncio.wait_for(dispatcher.serve(frame, WEIGHT, place), 30))


async def serve_all(dispatcher, video, frame_ids, key_frames=()):
    """Serve frames side by side; their results in order."""
    under_way = [serve(dispatcher, video, each, each in key_frames) for each in frame_ids]
    return [result for _, result in await asyncio.gather(*under_way)]


def fails_once(answer):
    """A backbone that answers a frame like this the first time that it comes."""
    seen = set()

    async def answers(frame_id, context):
        if frame_id in seen or frame_id != 2:
            return good_answer(frame_id)
        seen.add(frame_id)
        return await answer(frame_id, context)

    return answers


async def test_frames_come_in_order_however_long_the_stream_takes_to_open():
    async with watching("edge") as (toys, _, dispatcher, video):
        await serve_all(dispatcher, video, range(8), key_frames=[0])
        assert toys["edge"].streams == [list(range(8))]
        assert toys["edge"].openings[0].video.codec == 1


async def test_a_switch_amid_a_group_brings_the_new_decoder_to_where_the_other_was():
    async with watching("edge", "workstation") as (toys, orchestra, dispatcher, video):
        await serve_all(dispatcher, video, range(4), key_frames=[0])
        orchestra.router.set_operator_pair(REMOTE)
        number = 3
        while not [each for each in toys["workstation"].frame_ids if each < MIRRORED_FROM]:
            number += 1
            await serve(dispatcher, video, number)
        (came,) = toys["workstation"].streams
        # A mirrored request, as one that prepares the route, stands for its frame.
        mirrored = [place for place, each in enumerate(came) if each == (place, MIRRORED)]
        assert mirrored
        before = [(each, MIRRORED) if each in mirrored else (each,) for each in range(number)]
        assert came == [*before, number]
        # And back: only what was served elsewhere meanwhile.
        orchestra.router.set_operator_pair(FULL)
        while toys["edge"].frame_ids[-1] != number:
            number += 1
            await serve(dispatcher, video, number)
        (came,) = toys["edge"].streams
        assert (0,) not in came


async def test_placements_that_alternate_decode_each_frame_once_in_each_place():
    async with watching("edge", "workstation") as (toys, orchestra, dispatcher, video):
        await serve(dispatcher, video, 0, key_frame=True)
        for number in range(1, 60):
            pair = REMOTE if number % 2 else FULL
            orchestra.router.set_operator_pair(pair)
            await serve(dispatcher, video, number)
        for toy in toys.values():
            assert len(toy.streams) == 1
            assert len(toy.streams[0]) <= 60
        metrics = orchestra.resources.metrics.registry
        came = [each for toy in toys.values() for each in toy.streams[0]]
        only_decoded = sum(isinstance(each, tuple) and len(each) == 1 for each in came)
        assert metrics.get_sample_value("tandem_decode_only_frames_total") == only_decoded > 20


async def test_frames_under_way_when_their_route_dies_are_served_elsewhere_each_once():
    async with watching("edge", "workstation") as (toys, orchestra, dispatcher, video):
        orchestra.router.set_operator_pair(None)
        first = orchestra.router.active_pair().backbone
        (other,) = set(toys) - {first}
        await serve_all(dispatcher, video, range(5), key_frames=[0])
        toys[first].answer = dies
        results = await serve_all(dispatcher, video, [5, 6, 7])
        assert [each.frame_id for each in results] == [5, 6, 7]
        assert [each.WhichOneof("result") for each in results] == ["detections"] * 3
        # One after the other, since each may be what the route died of.
        assert toys[other].streams[0] == [*((each,) for each in range(5)), 5, 6, 7]


async def test_a_frame_that_comes_too_late_for_a_decoder_takes_another_stream_of_the_route():
    async with watching("edge") as (toys, _, dispatcher, video):
        toys["edge"].answer = fails_once(has_no_room)
        results = await serve_all(dispatcher, video, range(5), key_frames=[0])
        assert [each.WhichOneof("result") for each in results] == ["detections"] * 5
        first, second = toys["edge"].streams
        assert first == list(range(5))
        assert second == [(0,), (1,), 2]
        # The next frame takes the stream that lacks nothing.
        await serve(dispatcher, video, 5)
        assert toys["edge"].streams == [list(range(6)), second]


async def test_a_decoder_that_was_lost_gets_no_further_frame():
    async with watching("edge") as (toys, _, dispatcher, video):
        toys["edge"].answer = fails_once(loses_its_decoder)
        await serve_all(dispatcher, video, [0, 1], key_frames=[0])
        await serve(dispatcher, video, 2)
        await serve(dispatcher, video, 3)
        assert toys["edge"].streams == [[0, 1, 2], [(0,), (1,), 2, 3]]


async def test_a_frame_that_brings_stages_down_is_taken_nowhere_by_those_behind_it():
    async with watching("edge", "workstation", "attic") as (toys, orchestra, dispatcher, video):
        orchestra.router.set_operator_pair(None)
        deaths = []

        def is_fatal(toy):
            async def answer(frame_id, context):
                # To decode it is enough.
                if 2 in numbers_of(toy.streams[-1]):
                    deaths.append(frame_id)
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
                return good_answer(frame_id)

            return answer

        for toy in toys.values():
            toy.answer = is_fatal(toy)
        await serve_all(dispatcher, video, [0, 1], key_frames=[0])
        with pytest.raises(InternalError, match="not sent a third time"):
            await serve(dispatcher, video, 2)
        assert deaths == [2, 2]
        with pytest.raises(InternalError, match="cannot be decoded without frame 2"):
            video.frame(3)
        await serve(dispatcher, video, 4, key_frame=True)
        assert deaths == [2, 2]


async def test_those_that_were_under_way_with_it_are_answered_without_a_further_try():
    async with watching("edge", "workstation", "attic") as (toys, orchestra, dispatcher, video):
        orchestra.router.set_operator_pair(None)
        for toy in toys.values():
            toy.answer = dies
        under_way = [serve(dispatcher, video, each, each == 0) for each in range(3)]
        errors = await asyncio.gather(*under_way, return_exceptions=True)
        assert "not sent a third time" in str(errors[0])
        for error in errors[1:]:
            assert "cannot be decoded without frame 0" in str(error)
        assert sum(len(toy.streams) for toy in toys.values()) == 2


async def test_a_server_that_fails_on_a_frame_ends_no_group():
    async with watching("edge", "workstation") as (toys, orchestra, dispatcher, video):
        orchestra.router.set_operator_pair(None)
        for toy in toys.values():
            toy.answer = fails
        with pytest.raises(InternalError, match="taken to be the frame's"):
            await serve(dispatcher, video, 0, key_frame=True)
        for toy in toys.values():
            toy.answer = ToyBackbone().answer
        assert [each.frame_id for each in await serve_all(dispatcher, video, [1, 2])] == [1, 2]
