"""What all sessions share: news of stages, the ticks that look after routes, and the status."""

import asyncio
import time

from common.domain.placement import NodePair, Placement, Stage
from common.wire.operations import system_status_from_wire, system_status_to_wire
from services.orchestrator.routing.routes import StageHealth
from services.orchestrator.status_report import system_status
from tests.streams import LiveStream, detect, frame, options
from tests.unit.orchestrator.test_session import Held, served
from tests.unit.orchestrator.toys import ToyBackbone, hangs, rig, until

FULL = Placement.FULL.node_pair


def unhealthy(server, fault="died"):
    return StageHealth(server, False, "gone", fault)


def sample(orchestra, name, **labels):
    return orchestra.resources.metrics.registry.get_sample_value(name, labels)


async def test_the_metrics_follow_the_health_of_stages():
    async with rig({"edge": ToyBackbone(), "workstation": ToyBackbone()}) as orchestra:
        chosen = orchestra.router.active_pair()
        assert sample(orchestra, "tandem_placement_info", placement=chosen.name) == 1
        server = orchestra.backbones[chosen.backbone]
        assert sample(orchestra, "tandem_node_up", node=server.node, stage="backbone") == 1
        orchestra.sessions.stage_changed(unhealthy(server))
        assert sample(orchestra, "tandem_node_up", node=server.node, stage="backbone") == 0
        assert sample(orchestra, "tandem_placement_info", placement=chosen.name) == 0
        now_chosen = orchestra.router.active_pair()
        assert sample(orchestra, "tandem_placement_info", placement=now_chosen.name) == 1


async def test_a_silent_stage_frees_the_frames_of_every_session():
    toys = {"edge": ToyBackbone(), "workstation": ToyBackbone()}
    async with toys["edge"].running(), toys["workstation"].running(), rig(toys) as orchestra:
        first = orchestra.router.active_pair().backbone
        toys[first].answer = hangs
        async with orchestra.serving() as address:
            asked = [
                asyncio.ensure_future(detect(address, [options(), frame(1)])) for _ in range(3)
            ]
            await until(lambda: len(toys[first].frame_ids) == 3)
            orchestra.sessions.stage_changed(unhealthy(orchestra.backbones[first], "silent"))
            for (response,) in await asyncio.wait_for(asyncio.gather(*asked), 60):
                assert response.WhichOneof("result") == "detections"
                assert response.timing.backbone.node == "liar"


async def test_a_stage_that_is_gone_and_no_more_lets_its_frames_come_home():
    async with served() as (toy, orchestra, address):
        held = Held()
        toy.answer = held.answer
        asked = asyncio.ensure_future(detect(address, [options(), frame(1)]))
        await held.next_id()
        orchestra.sessions.stage_changed(unhealthy(orchestra.backbones["edge"], "not serving"))
        held.let_go()
        (response,) = await asyncio.wait_for(asked, 60)
        assert response.WhichOneof("result") == "detections"
        assert orchestra.router.events.counts.retried_frames == 0


async def test_the_ticks_notice_what_changes_with_time():
    async with served() as (_, orchestra, address):
        router = orchestra.router
        (route,) = router.table.routes_of(FULL)
        looking_after = asyncio.ensure_future(orchestra.sessions.run())
        router.table.mark_unavailable(route, "it hangs", time.monotonic() + 0.3)
        # The frame waits for the route, which nobody but the ticks makes available.
        (response,) = await asyncio.wait_for(detect(address, [options(), frame(1)]), 60)
        assert response.WhichOneof("result") == "detections"
        await until(lambda: sample(orchestra, "tandem_stage_estimate_seconds", **EDGE_BACKBONE))
        assert not looking_after.done()
        looking_after.cancel()


EDGE_BACKBONE = {"node": "edge", "stage": "backbone"}


async def test_the_status_tells_everything_and_survives_the_wire():
    async with served() as (toy, orchestra, address):
        held = Held()
        toy.answer = held.answer
        async with LiveStream(address) as client:
            await client.send(options(), frame(0), frame(1))
            await held.next_id()
            held.let_go()
            await client.receive(1)
            await held.next_id()
            orchestra.router.measurements.observe_heartbeat(orchestra.backbones["edge"], 0.002)
            orchestra.router.tick()
            status = system_status(orchestra.sessions)
            held.let_go()
            await client.rest()
    (session,) = status.sessions
    assert (session.node_pair, session.frames_answered, session.frames_in_flight) == (FULL, 1, 1)
    assert (status.operator_pair, status.active_pair) == (None, FULL)
    backbone = next(each for each in status.stages if each.stage is Stage.BACKBONE)
    assert (backbone.healthy, backbone.frames_in_flight, backbone.reason) == (True, 1, "")
    # The toy claims 1e-4 s; of stages that share a device less may be taken to be its own.
    assert 0 < backbone.estimate.execute_seconds <= 1e-4
    full = next(each for each in status.placements if each.node_pair == FULL)
    assert (full.available, full.frames) == (True, 1)
    assert full.prediction.frames_per_second > 0
    assert [each.available for each in status.placements].count(True) == 1
    assert any("serves; wanted" in sentence for sentence in status.explanation)
    assert system_status_from_wire(system_status_to_wire(status)) == status


async def test_pairs_that_no_placement_names_are_told_by_their_nodes():
    async with rig({"attic": ToyBackbone(), "cellar": ToyBackbone()}) as orchestra:
        orchestra.router.set_operator_pair(NodePair("attic", "cellar"))
        orchestra.sessions.stage_changed(unhealthy(orchestra.backbones["cellar"]))
        status = system_status(orchestra.sessions)
        assert status.operator_pair == status.active_pair == NodePair("attic", "cellar")
        assert status.placement is status.placement_setting is None
        told = system_status_from_wire(system_status_to_wire(status))
        assert told == status
        lost = next(
            each for each in told.placements if each.node_pair == NodePair("cellar", "attic")
        )
        assert (lost.available, lost.frames_per_second) == (False, 0.0)
        assert "backbone on cellar is unavailable (gone)" in lost.reason
