"""Streams that leave it to the server outlive what dies and hangs; each has its fair share."""

import asyncio
import statistics
from contextlib import contextmanager

import pytest

from common.domain.placement import NodePair, Placement
from protos.tandem.v1 import detector_pb2
from tandem.client import DetectorClient
from tests.cameras import Camera, assert_own_boxes, boxes_of_pictures, streaming
from tests.harness import Cluster
from tests.streams import detect, frame, status, watch_until

PACE = ("--paced-milliseconds", "20")
UNAVAILABLE_AFTER_SECONDS = 4.0
STAGES = ("backbone", "transformer")
OTHER = {"edge": "workstation", "workstation": "edge"}


@contextmanager
def running(*arguments, **more):
    cluster = Cluster(stage_arguments=PACE, orchestrator_arguments=arguments, **more)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster():
    """Each test mends what it breaks."""
    with running(
        *("--health-timeout-seconds", "1", "--recovery-seconds", "1"),
        *("--unavailable-after", str(UNAVAILABLE_AFTER_SECONDS)),
    ) as it:
        yield it


@pytest.fixture(scope="module")
def patient():
    """No stage of it is taken for one that hangs because the machine is busy."""
    with running() as it:
        yield it


@pytest.fixture
async def whole(cluster):
    """Wait until all that the test before has mended may be chosen again."""
    await watch_until(cluster.address, lambda state: not any(each.reason for each in state.stages))
    return cluster


def reason_of(state, name):
    node, stage = name.split(".")
    return next(each.reason for each in state.stages if (each.node, each.stage) == (node, stage))


def all_served(camera):
    return set(camera.outcomes) == {"detections"}


def executed(service, stage):
    """Frames that a stage has executed."""
    return service.metric("tandem_stage_seconds_count", stage=stage, step="execute")


async def test_an_orchestrator_that_stood_still_itself_blames_no_route(patient):
    before = patient.orchestrator.metric("tandem_failovers_total")
    camera = Camera("camera")
    async with streaming(patient.address, camera):
        await camera.served(10)
        patient.orchestrator.hang()
        # Longer than a route may go without an answer.
        await asyncio.sleep(3.0)
        patient.orchestrator.go_on()
        await camera.served(10)
    assert all_served(camera)
    assert patient.orchestrator.metric("tandem_failovers_total") == before


@pytest.mark.alone
@pytest.mark.parametrize("stage", STAGES)
async def test_a_killed_stage_costs_no_frame(whole, stage):
    before = (await status(whole.address)).events
    camera = Camera("camera")
    async with streaming(whole.address, camera):
        await camera.served(10)
        name = f"{getattr(camera.pair, stage)}.{stage}"
        whole.stages[name].kill()
        await camera.served(20)
    assert all_served(camera)
    assert getattr(camera.pair, stage) != name.split(".", maxsplit=1)[0]
    after = (await status(whole.address)).events
    assert after.failovers["died"] == before.failovers["died"] + 1
    assert after.replayed_frames > before.replayed_frames
    counted = whole.orchestrator.metric("tandem_replayed_frames_total")
    assert counted == after.replayed_frames
    whole.restart(name)


@pytest.mark.alone
@pytest.mark.parametrize("stage", STAGES)
async def test_a_stage_that_hangs_is_left_and_used_again_once_it_goes_on(whole, stage):
    camera = Camera("camera")
    async with streaming(whole.address, camera):
        await camera.served(10)
        node = getattr(camera.pair, stage)
        first, second = f"{node}.{stage}", f"{OTHER[node]}.{stage}"
        whole.stages[first].hang()
        state = await watch_until(whole.address, lambda state: reason_of(state, first))
        assert "has not answered for 1 s" in reason_of(state, first)
        await camera.until(lambda: getattr(camera.pair, stage) == OTHER[node])
        whole.stages[first].go_on()
        await watch_until(whole.address, lambda state: "back" in reason_of(state, first))
        await watch_until(whole.address, lambda state: not reason_of(state, first))
        whole.stages[second].hang()
        await camera.until(lambda: getattr(camera.pair, stage) == node)
        whole.stages[second].go_on()
    assert all_served(camera)


@pytest.mark.alone
async def test_with_nothing_left_frames_wait_and_then_fail_until_service_resumes(whole):
    camera = Camera("camera")
    async with streaming(whole.address, camera):
        await camera.served(10)
        for each in whole.stages.values():
            each.hang()
        await camera.until(lambda: camera.failed_at)
        served_before = camera.served_at[-1]
        for each in whole.stages.values():
            each.go_on()
        await camera.until(lambda: camera.served_at[-1] > camera.failed_at[-1])
        await camera.served(10)
    assert camera.failed_at[0] - served_before >= UNAVAILABLE_AFTER_SECONDS
    errors = [outcome for outcome in camera.outcomes if outcome.startswith("error")]
    assert all("no placement can serve" in error for error in errors)


@pytest.mark.alone
async def test_a_pinned_stream_waits_for_its_stage(whole):
    camera = Camera("camera", placement="full")
    async with streaming(whole.address, camera):
        await camera.served(10)
        whole.stages["edge.backbone"].hang()
        await watch_until(whole.address, lambda state: reason_of(state, "edge.backbone"))
        whole.stages["edge.backbone"].go_on()
        await camera.served(10)
    assert all_served(camera)
    assert camera.pair == Placement.FULL.node_pair


async def test_frames_in_flight_outlive_every_change_of_placement(patient):
    """Also those whose latents are coded given the frame before, which another route had."""
    expected = await boxes_of_pictures(patient.address, "latent-fine")
    camera = Camera("camera", codec="latent-fine")
    async with streaming(patient.address, camera), DetectorClient(patient.address) as operator:
        try:
            for placement in [*Placement, *reversed(Placement)]:
                await operator.set_placement(placement)
                await camera.until(lambda pair=placement.node_pair: camera.pair == pair)
        finally:
            await operator.set_placement(None)
    assert all_served(camera)
    assert_own_boxes(camera, expected)


@pytest.mark.alone
async def test_a_flood_leaves_a_slow_camera_its_share(whole):
    slow, floods = Camera("slow", fps=5.0), [Camera(f"flood {number}") for number in range(3)]
    async with streaming(whole.address, slow, *floods):
        await slow.served(25)
    assert slow.outcomes["dropped"] <= 1
    rate = (len(slow.served_at) - 1) / (slow.served_at[-1] - slow.served_at[0])
    assert rate >= 0.9 * slow.fps
    # Two executions of its own, each after those of the three others.
    latency = sorted(slow.latencies)[int(0.95 * len(slow.latencies))]
    assert latency < 3 * 0.02 * 2 * (1 + len(floods))
    assert statistics.median(slow.latencies) < 0.02 * 2 * (1 + len(floods))


async def test_probes_are_a_bounded_share(patient):
    before = (await status(patient.address)).events.probe_frames
    camera = Camera("camera")
    async with streaming(patient.address, camera):
        await camera.served(120)
    probes = (await status(patient.address)).events.probe_frames - before
    assert 0 < probes <= 1 + 0.04 * len(camera.served_at)


async def test_nothing_is_probed_if_the_share_is_none():
    with running("--probe-share", "0") as cluster:
        camera = Camera("camera")
        async with streaming(cluster.address, camera):
            await camera.served(60)
        assert (await status(cluster.address)).events.probe_frames == 0
        left = {node for node in OTHER if node not in (camera.pair.backbone,)}
        for node in left:
            assert executed(cluster.stages[f"{node}.backbone"], "backbone") == 0


@pytest.mark.parametrize(
    ("setting", "crossing"),
    [("--features-may-leave", "features"), ("--frames-may-leave", "frames")],
)
async def test_what_may_not_leave_does_not_even_for_a_probe(setting, crossing):
    with running(setting, "false", "--located-at", "edge") as cluster:
        camera = Camera("camera")
        async with streaming(cluster.address, camera):
            await camera.served(120)
        assert all_served(camera)
        sent = {
            f"{crossing} from {node}": cluster.stages[f"{node}.backbone"].metric(
                "tandem_link_bytes_total", peer=OTHER[node]
            )
            for node in OTHER
        }
        if crossing == "frames":
            sent = {"frames": executed(cluster.stages["workstation.backbone"], "backbone")}
        assert not any(sent.values()), sent
        assert (await status(cluster.address)).events.probe_frames > 0


async def test_any_two_nodes_can_be_named():
    with running(nodes=("edge", "workstation", "attic")) as cluster:
        options = detector_pb2.StreamOptions(backbone_node="edge", transformer_node="attic")
        opening = detector_pb2.DetectRequest(options=options)
        responses = await detect(cluster.address, [opening, *(frame(n) for n in range(5))])
        for each in responses:
            nodes = each.timing.backbone.node, each.timing.transformer.node
            assert nodes == ("edge", "attic")
        camera = Camera("camera")
        async with streaming(cluster.address, camera), DetectorClient(cluster.address) as operator:
            await camera.served(5)
            await operator.set_placement("backbone=attic,transformer=workstation")
            await camera.until(lambda: camera.pair == NodePair("attic", "workstation"))
            await operator.set_placement(None)
            for stage in ("edge.transformer", "workstation.transformer"):
                cluster.stages[stage].kill()
            await camera.until(lambda: camera.pair.transformer == "attic")
            await camera.served(10)
        assert all_served(camera)


async def test_replicas_share_the_frames_and_outlive_one_another():
    replicas = {"edge.transformer": 2, "edge.backbone": 2}
    with running(nodes=("edge",), replicas=replicas) as cluster:
        expected = await boxes_of_pictures(cluster.address, "latent-fine")
        cameras = [Camera("first", codec="latent-fine"), Camera("second", codec="latent-fine")]
        names = {stage: (f"edge.{stage}", f"edge.{stage}.1") for stage in STAGES}
        async with streaming(cluster.address, *cameras):
            # How evenly depends on which process the machine lets run.
            each = [(cluster.stages[name], stage) for stage, pair in names.items() for name in pair]
            await cameras[0].until(lambda: all(executed(*one) >= 20 for one in each))
            cluster.stages["edge.transformer"].kill()
            cluster.stages["edge.backbone.1"].kill()
            await cameras[0].served(20)
        for camera in cameras:
            assert all_served(camera)
            assert_own_boxes(camera, expected)
