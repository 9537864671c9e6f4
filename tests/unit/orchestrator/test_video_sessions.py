"""One client's stream of video in front of a toy backbone: what is refused, and what is dropped."""

from contextlib import asynccontextmanager

import grpc
import pytest

from protos.tandem.v1 import detector_pb2
from tests.streams import LiveStream, detect, frame, options
from tests.unit.orchestrator.test_session import Held
from tests.unit.orchestrator.toys import (
    MEBIBYTE,
    ToyBackbone,
    Video,
    access_unit,
    numbers_of,
    rig,
    until,
)

H264 = detector_pb2.VideoFormat(codec=detector_pb2.VIDEO_CODEC_H264)
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


@asynccontextmanager
async def served(**changes):
    toy = ToyBackbone()
    async with toy.running(), rig({"edge": toy}, **changes) as orchestra, orchestra.serving() as at:
        yield toy, orchestra, at


def unit(frame_id, key_frame=False, size=10, decode_only=False):
    request = detector_pb2.DetectRequest(frame=access_unit(frame_id, key_frame, size))
    request.frame.encoded_video.decode_only = decode_only
    return request


def outcomes(responses):
    """Of each frame the code of its error, or the kind of its answer."""
    return [each.error.code or each.WhichOneof("result") for each in responses]


async def test_a_stream_that_starts_amid_a_group_is_told_so_until_a_key_frame_comes():
    async with served() as (toy, _, address):
        units = [unit(0), unit(1), unit(2, key_frame=True), unit(3)]
        responses = await detect(address, [options(video=H264), *units])
        assert outcomes(responses) == [INVALID, INVALID, "detections", "detections"]
        assert "no key frame has come" in responses[0].error.message
        assert toy.streams == [[2, 3]]


async def test_a_group_over_the_limit_is_refused_to_its_end_and_the_next_one_served():
    async with served(max_group_bytes=25) as (toy, orchestra, address):
        units = [unit(number, key_frame=number in (0, 5)) for number in range(7)]
        responses = await detect(address, [options(video=H264), *units])
        assert outcomes(responses) == ["detections"] * 2 + [EXHAUSTED] * 3 + ["detections"] * 2
        assert "max_group_mebibytes" in responses[2].error.message
        assert toy.streams == [[0, 1, 5, 6]]


async def test_what_is_no_access_unit_is_refused_alone():
    async with served() as (toy, _, address):
        empty = detector_pb2.DetectRequest(
            frame=detector_pb2.Frame(frame_id=2, encoded_video=detector_pb2.AccessUnit())
        )
        frames = [unit(0, key_frame=True), frame(1), empty, unit(3)]
        responses = await detect(address, [options(video=H264), *frames])
        assert outcomes(responses) == ["detections", INVALID, INVALID, "detections"]
        assert "is a picture" in responses[1].error.message
        assert toy.streams == [[0, 3]]
        (response,) = await detect(address, [unit(0, key_frame=True)])
        assert response.error.code == INVALID


async def test_of_live_video_the_dropped_frames_are_decoded_and_no_more():
    async with served() as (toy, orchestra, address):
        held = Held()
        toy.answer = held.answer
        async with LiveStream(address) as client:
            live = detector_pb2.OVERLOAD_DROP_OLDEST
            await client.send(options(video=H264, overload=live), unit(0, key_frame=True))
            assert await held.next_id() == 0
            await client.send(*(unit(number) for number in range(1, 8)))
            (session,) = orchestra.sessions.open.values()
            await until(lambda: session.status.frames_in_flight == 8)
            held.let_go(8)
            responses = await client.rest()
        kinds = outcomes(responses)
        assert kinds == ["detections"] * 2 + ["dropped"] * 5 + ["detections"]
        (came,) = toy.streams
        assert came == [0, 1, *((number,) for number in range(2, 7)), 7]


@pytest.mark.parametrize("policy", ["OVERLOAD_BLOCK", "OVERLOAD_DROP_OLDEST"])
async def test_a_unit_that_is_to_be_decoded_only_is_dropped_and_comes_before_later_ones(policy):
    async with served() as (toy, orchestra, address):
        units = [unit(at, key_frame=at == 0, decode_only=at % 2 == 1) for at in range(9)]
        overload = detector_pb2.OverloadPolicy.Value(policy)
        async with LiveStream(address) as client:
            await client.send(options(video=H264, overload=overload))
            responses = []
            for each in units:
                # One after another, so that a live stream has nothing to drop by itself.
                await client.send(each)
                responses += await client.receive(1)
        assert outcomes(responses) == ["detections", "dropped"] * 4 + ["detections"]
        (came,) = toy.streams
        assert numbers_of(came) == list(range(9))
        assert [each for each in came if not isinstance(each, tuple)] == [0, 2, 4, 6, 8]


async def test_units_that_are_to_be_decoded_only_do_not_overtake_a_frame_that_waits():
    async with served() as (toy, _, address):
        units = [unit(at, key_frame=at == 0, decode_only=at % 3 != 0) for at in range(13)]
        responses = await detect(address, [options(video=H264), *units])
        assert outcomes(responses)[::3] == ["detections"] * 5
        (came,) = toy.streams
        assert numbers_of(came) == list(range(13))


async def test_live_video_skips_the_groups_that_nobody_waits_for():
    async with served() as (toy, orchestra, address):
        held = Held()
        toy.answer = held.answer
        async with LiveStream(address) as client:
            live = detector_pb2.OVERLOAD_DROP_OLDEST
            await client.send(options(video=H264, overload=live))
            # The stream is full: what is dropped cannot be sent on at once.
            size = MEBIBYTE // 16
            units = [unit(number, number % 10 == 0, size) for number in range(36)]
            await client.send(units[0])
            assert await held.next_id() == 0
            await client.send(*units[1:])
            (session,) = orchestra.sessions.open.values()
            await until(lambda: session.status.frames_in_flight == 36)
            # Of four groups the first and the last are kept, and of three frames all copies.
            await until(lambda: orchestra.budget.held.taken_bytes <= (10 + 6 + 3 * 3 + 1) * size)
            held.let_go(36)
            responses = await client.rest()
        assert outcomes(responses)[-1] == "detections"
        (came,) = toy.streams
        video = Video(None)
        video.key_frames = [0, 10, 20, 30]
        video.assert_decodable(came)
        assert came[-1] == 35
        assert numbers_of(came)[-6:] == [30, 31, 32, 33, 34, 35]


async def test_what_a_session_keeps_is_given_back_when_it_ends():
    async with served() as (_, orchestra, address):
        units = [unit(number, key_frame=number == 0, size=1000) for number in range(50)]
        await detect(address, [options(video=H264), *units])
        await until(lambda: not orchestra.sessions.open)
        assert orchestra.budget.held.taken_bytes == 0
