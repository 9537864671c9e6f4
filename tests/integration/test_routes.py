"""A session's streams to a backbone that hangs."""

import asyncio
import time
from collections import Counter
from typing import NamedTuple

import pytest

from common.domain.detections import StreamOptions
from common.domain.errors import UnavailableError
from common.domain.placement import Stage, StageAddress
from protos.tandem.v1 import detector_pb2
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.route_streams import RouteStreams
from tests.integration.test_stage_client import OPENED, never_opens, result, serving
from tests.waiting import until

BACKBONE = StageAddress("edge", Stage.BACKBONE, "not dialled")
ROUTE = Route(BACKBONE, StageAddress("edge", Stage.TRANSFORMER, "not dialled"))
# More than the transport takes while nobody reads, so that later frames wait in their writes.
FRAMES, FRAME_BYTES = 40, 1 << 20


class Fixed(NamedTuple):
    """A server's channel that stays as it is."""

    current: object
    openings: asyncio.Semaphore


async def opens_and_hangs(requests, context):
    await requests.__anext__()
    await context.write(OPENED)
    await asyncio.Event().wait()


@pytest.mark.parametrize("behaviour", [opens_and_hangs, never_opens])
async def test_every_frame_on_a_given_up_route_can_be_sent_elsewhere(behaviour):
    in_flight = Counter()
    async with serving(behaviour) as channel:
        options = StreamOptions()
        streams = RouteStreams(
            "session", options, {BACKBONE: Fixed(channel, asyncio.Semaphore(FRAMES))}, in_flight
        )
        image = bytes(FRAME_BYTES)
        asked = [
            asyncio.ensure_future(
                streams.ask(ROUTE, detector_pb2.Frame(frame_id=number, encoded=image))
            )
            for number in range(FRAMES)
        ]
        if behaviour is opens_and_hangs:
            await until(lambda: streams.is_open(ROUTE))
        done, _ = await asyncio.wait(asked, timeout=0.5)
        assert not done
        assert in_flight[BACKBONE] == FRAMES
        streams.give_up(ROUTE, "no answer")
        outcomes = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)
        # A cancellation would end the session's task, and with it the client's stream.
        assert {type(outcome) for outcome in outcomes} == {UnavailableError}
        assert in_flight[BACKBONE] == 0
        await streams.close()


async def passes_over_the_first(requests, context):
    await requests.__anext__()
    await context.write(OPENED)
    async for request in requests:
        if request.frame.frame_id:
            await context.write(result(request.frame.frame_id))


async def test_answers_to_later_frames_are_no_progress():
    async with serving(passes_over_the_first) as channel:
        streams = RouteStreams(
            "session",
            StreamOptions(),
            {BACKBONE: Fixed(channel, asyncio.Semaphore(FRAMES))},
            Counter(),
        )
        first = asyncio.ensure_future(streams.ask(ROUTE, detector_pb2.Frame(frame_id=0)))
        await until(lambda: streams.is_open(ROUTE))
        asked = time.monotonic()
        for number in range(1, 4):
            await streams.ask(ROUTE, detector_pb2.Frame(frame_id=number))
        now = time.monotonic()
        assert list(streams.without_progress(now, {ROUTE: now - asked})) == [ROUTE]
        streams.give_up(ROUTE, "no answer")
        with pytest.raises(UnavailableError):
            await first
        await streams.close()
