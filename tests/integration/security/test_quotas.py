"""Quotas of a running orchestrator: one identity is slowed down or refused, and no other is."""

import asyncio
import time

import grpc
import pytest

from protos.tandem.v1 import detector_pb2, detector_pb2_grpc
from tests.authorities import replace
from tests.integration.security.calls import channel_to
from tests.integration.security.test_changes import PICTURE, load
from tests.streams import frame, options


@pytest.fixture
def limited(secured, realm):
    """Lets the file of quotas hold what a test asks for; in the end it holds nothing."""

    def limit(text):
        replace(realm.quotas, f"quotas: {{{text}}}".encode())

    yield limit
    limit("")


async def responses_of(cluster, credentials, requests):
    async with channel_to(cluster.address, credentials, "orchestrator/main") as channel:
        call = detector_pb2_grpc.DetectorStub(channel).Detect(iter(requests))
        return [response async for response in call]


def outcomes(responses):
    return [response.WhichOneof("result") for response in responses]


@pytest.mark.alone
async def test_a_lossless_stream_is_slowed_down_and_no_other_is(secured, realm, limited):
    limited("client/limited: {frames_per_second: 10}")
    slow = realm.credentials(realm.issue("client/limited"))
    fast = realm.credentials(realm.issue("client/camera"))
    frames = [frame(number, PICTURE) for number in range(25)]
    async with load(secured.address, fast) as (under_way, _):
        before, began = len(under_way.responses), time.monotonic()
        responses = await responses_of(secured, slow, frames)
        seconds = time.monotonic() - began
        others = len(under_way.responses) - before
    assert outcomes(responses) == ["detections"] * 25
    # Ten come at once, fifteen at ten a second.
    assert 1.3 < seconds < 15
    assert others > 2 * 25


@pytest.mark.alone
async def test_bytes_count_as_frames_do(secured, realm, limited):
    limited(f"client/limited: {{bytes_per_second: {10 * len(PICTURE)}}}")
    slow = realm.credentials(realm.issue("client/limited"))
    began = time.monotonic()
    responses = await responses_of(secured, slow, [frame(each, PICTURE) for each in range(25)])
    assert outcomes(responses) == ["detections"] * 25
    assert 1.3 < time.monotonic() - began < 15


@pytest.mark.alone
async def test_a_live_stream_drops_what_is_over_its_quota(secured, realm, limited):
    limited("client/limited: {frames_per_second: 5}")
    slow = realm.credentials(realm.issue("client/limited"))
    live = options(overload=detector_pb2.OVERLOAD_DROP_OLDEST)
    frames = [frame(number, PICTURE) for number in range(40)]
    began = time.monotonic()
    responses = await responses_of(secured, slow, [live, *frames])
    assert [each.frame_id for each in responses] == list(range(40))
    assert set(outcomes(responses)) == {"detections", "dropped"}
    # It waits for nothing: forty frames at five a second would take seven seconds.
    assert time.monotonic() - began < 5
    assert outcomes(responses).count("detections") <= 6 + 5 * (time.monotonic() - began)


async def test_a_stream_that_waits_for_its_quota_goes_on_with_a_better_one(secured, realm, limited):
    """The fault: a typing error in the file held a camera up for hours after it was mended."""
    credentials = realm.credentials(realm.issue("client/limited"))
    limited("client/limited: {bytes_per_second: 0.01}")
    async with channel_to(secured.address, credentials, "orchestrator/main") as channel:
        call = detector_pb2_grpc.DetectorStub(channel).Detect(timeout=120)
        await call.write(frame(0, PICTURE))
        assert (await call.read()).frame_id == 0
        limited("")
        await call.write(frame(1, PICTURE))
        assert (await call.read()).frame_id == 1
        call.cancel()


async def test_sessions_over_the_quota_are_refused(secured, realm, limited):
    limited("client/limited: {sessions: 1}")
    credentials = realm.credentials(realm.issue("client/limited"))
    async with load(secured.address, credentials) as (under_way, task):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await responses_of(secured, credentials, [frame(0, PICTURE)])
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == "1 sessions of client/limited are open, which is its quota"
        under_way.stop()
        assert await asyncio.wait_for(task, 60) is grpc.StatusCode.OK
        under_way.check_nothing_lost()
    assert outcomes(await responses_of(secured, credentials, [frame(0, PICTURE)])) == ["detections"]
