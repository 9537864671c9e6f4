"""A route's frames change from one codec to another: no pause, and no frame lost."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

from common.domain.codec import Codec, RateFigures
from common.domain.detections import StreamOptions
from common.domain.placement import Stage
from common.wire.channels import ServerChannel
from common.wire.frames import codec_to_wire
from protos.tandem.v1 import stage_pb2
from services.orchestrator.decision.policy import Objective, Policy
from services.orchestrator.routing.routes import Route
from services.orchestrator.session.deadlines import FrameWeight
from services.orchestrator.session.route_streams import RouteStreams
from tests.unit.orchestrator.toys import ToyBackbone, frame, rig, serves, stage_address, until

TRANSFORMER = stage_address("workstation", Stage.TRANSFORMER)
INT8, COARSE, LATENT = (
    codec_to_wire(each) for each in (Codec.INT8, Codec.LATENT_COARSE, Codec.LATENT)
)


class Streams:
    """A session's streams to one toy, by the codec that a test wants."""

    def __init__(self, toy, streams, route):
        self.toy = toy
        self.streams = streams
        self.route = route
        self.wanted = None

    def ask(self, frame_id):
        return asyncio.wait_for(self.streams.ask(self.route, frame(frame_id)), 60)

    @property
    def codecs(self):
        return [opening.codec for opening in self.toy.openings]


async def until_served_by(held, codec):
    """Ask, frame after frame, until one is served by the stream of this codec."""
    for frame_id in range(10, 1000):
        asking = asyncio.ensure_future(held.ask(frame_id))
        await asyncio.wait([asking], timeout=0.05)
        if held.toy.codecs.get(frame_id) == codec:
            await asking
            return
    raise AssertionError("no frame took that stream")


@asynccontextmanager
async def streams_to_a_toy():
    async with ToyBackbone().running() as toy:
        backbone = stage_address("edge", Stage.BACKBONE, toy.address)
        channel = ServerChannel(toy.address)
        streams = RouteStreams(
            *("session", StreamOptions(), {backbone: channel}, Counter()),
            codec_for=lambda route: held.wanted,
        )
        held = Streams(toy, streams, Route(backbone, TRANSFORMER))
        try:
            yield held
        finally:
            await streams.close()
            await channel.close()


async def test_frames_go_on_by_the_old_codec_until_the_new_stream_is_open():
    async with streams_to_a_toy() as held:
        held.wanted = Codec.LATENT
        await held.ask(1)
        release = asyncio.Event()

        async def waits(frame_id, context):
            if frame_id == 2:
                await release.wait()
            return await serves(frame_id, context)

        held.toy.answer = waits
        in_flight = asyncio.ensure_future(held.ask(2))
        await until(lambda: 2 in held.toy.frame_ids)
        held.wanted = Codec.LATENT_COARSE
        # Its stream is not open yet: this one queues behind the other, on the old one.
        behind = asyncio.ensure_future(held.ask(3))
        await until(lambda: held.codecs == [LATENT, COARSE])
        served = asyncio.ensure_future(until_served_by(held, COARSE))
        # The toy answers one after the other on each stream, so that only the new one goes on.
        await asyncio.wait_for(served, 60)
        assert not in_flight.done()
        release.set()
        await asyncio.gather(in_flight, behind)
        assert [held.toy.codecs[each] for each in (1, 2, 3)] == [LATENT] * 3


async def test_the_stream_that_was_left_is_closed_once_it_is_idle():
    async with streams_to_a_toy() as held:
        held.wanted = Codec.LATENT
        await held.ask(1)
        held.wanted = Codec.LATENT_COARSE
        await until_served_by(held, COARSE)
        await held.streams.leave_idle(float("inf"), held.route)
        await held.ask(2000)
        assert held.codecs == [LATENT, COARSE]
        held.wanted = Codec.LATENT
        await held.ask(2001)
        await until(lambda: held.codecs == [LATENT, COARSE, LATENT])


async def test_a_codec_that_is_refused_leaves_the_frames_where_they_are():
    async with streams_to_a_toy() as held:
        held.toy.refused = {COARSE}
        held.wanted = Codec.LATENT
        await held.ask(1)
        held.wanted = Codec.LATENT_COARSE
        for frame_id in range(2, 30):
            result = await held.ask(frame_id)
            assert result.WhichOneof("result") == "detections"
        # It is not asked for again and again.
        assert held.codecs == [LATENT, COARSE]


async def test_what_there_is_to_choose_from_is_learnt_before_the_first_frame_is_sent():
    toys = {"edge": ToyBackbone(), "workstation": ToyBackbone()}
    for toy in toys.values():
        toy.opened.codec = INT8
        for codec, size in ((LATENT, 100.0), (COARSE, 50.0)):
            toy.opened.latent_rates.append(
                stage_pb2.LatentRate(codec=codec, bytes_per_frame=size, bytes_per_key_frame=500)
            )
    async with toys["edge"].running(), toys["workstation"].running():
        policy = Policy(objective=Objective.ACCURACY, located_at="edge")
        async with rig(toys, policy=policy) as orchestra:
            dispatcher = orchestra.dispatcher()
            await asyncio.wait_for(dispatcher.serve(frame(1), FrameWeight(100, 1000)), 60)
            estimates = orchestra.router.measurements.estimates
            await dispatcher.close()
    # A first stream tells; the link is not measured, so that the coarsest rate is taken.
    edge = toys["edge"]
    assert [opening.codec for opening in edge.openings] == [0, COARSE]
    assert edge.frame_ids == [1]
    assert estimates.default_codecs == {"edge": Codec.INT8}
    assert estimates.latent_rates["edge"] == (
        RateFigures(Codec.LATENT, 100.0, 500.0),
        RateFigures(Codec.LATENT_COARSE, 50.0, 500.0),
    )
