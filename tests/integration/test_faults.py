"""Stages that die, drain, disagree or are not there."""

import asyncio
import json
import signal
import statistics
import time

import grpc
import pytest
from google.rpc import code_pb2

from common.wire.connections import CallEnding
from protos.tandem.v1 import (
    detector_pb2,
    operations_pb2,
    operations_pb2_grpc,
    stage_pb2,
    stage_pb2_grpc,
    tensor_pb2,
)
from tests.faulty import tell
from tests.harness import TOY_BUNDLE, Cluster, ServiceProcess
from tests.streams import (
    LiveStream,
    detect,
    frame,
    options,
    paced,
    stages_up,
    status,
    watch_until,
)
from tests.waiting import PATIENCE_SECONDS, until

FULL = detector_pb2.PLACEMENT_FULL
BACKBONE = detector_pb2.PLACEMENT_BACKBONE
WORKSTATION = detector_pb2.PLACEMENT_WORKSTATION
PARTS = ("frame", "input", "valid")


@pytest.fixture
def slow_cluster():
    """A cluster whose engines take 50 ms, so that four frames are in flight when something dies."""
    running = Cluster(
        stage_arguments=("--paced-milliseconds", "50"),
        orchestrator_arguments=("--window", "4", "--unavailable-after", "0.5"),
    )
    yield running
    running.close()


@pytest.mark.parametrize("stage", ["edge.backbone", "workstation.transformer"])
async def test_where_a_stream_insists_a_killed_stage_is_named_with_each_frame(slow_cluster, stage):
    async with LiveStream(slow_cluster.address) as stream:
        await stream.send(options(placement=BACKBONE), *(frame(number) for number in range(8)))
        before = await stream.receive(2)
        slow_cluster.stages[stage].kill()
        # Whoever was stopped here may have all answers already.
        await stream.send(frame(8), frame(9))
        rest = await stream.rest()
    responses = before + rest
    assert [each.frame_id for each in responses] == list(range(10))
    outcomes = [each.WhichOneof("result") for each in responses]
    assert outcomes[:2] == ["detections"] * 2
    # Those that it held were tried again, until the server waited no longer.
    failed = [each for each in responses if each.WhichOneof("result") == "error"]
    assert failed
    for each in failed:
        assert each.error.code == code_pb2.UNAVAILABLE
        assert stage.split(".")[1] in each.error.message


async def test_a_killed_stage_is_named_and_used_again_once_it_is_back(own_cluster):
    async with LiveStream(own_cluster.address) as stream:
        await stream.send(options(placement=FULL), frame(0))
        (first,) = await stream.receive(1)
        own_cluster.stages["edge.backbone"].kill()
        await watch_until(own_cluster.address, lambda state: stages_up(state) == 3)
        await stream.send(frame(1))
        (during,) = await stream.receive(1)
        own_cluster.restart("edge.backbone")
        await watch_until(own_cluster.address, lambda state: stages_up(state) == 4)
        await stream.send(frame(2))
        (after,) = await stream.rest()
    assert first.WhichOneof("result") == after.WhichOneof("result") == "detections"
    assert during.error.code == code_pb2.UNAVAILABLE
    assert "backbone on edge is unavailable" in during.error.message


async def test_streams_that_leave_it_to_the_server_move_off_a_dead_node(own_cluster):
    own_cluster.stages["edge.backbone"].kill()
    state = await watch_until(own_cluster.address, lambda state: stages_up(state) == 3)
    assert state.placement == detector_pb2.PLACEMENT_TRANSFORMER
    down = {each.placement for each in state.placements if not each.available}
    assert down == {FULL, BACKBONE}
    responses = await detect(own_cluster.address, [frame(number) for number in range(5)])
    assert {each.placement for each in responses} == {detector_pb2.PLACEMENT_TRANSFORMER}


async def test_a_placement_that_cannot_serve_is_not_set(own_cluster):
    own_cluster.stages["workstation.transformer"].kill()
    await watch_until(own_cluster.address, lambda state: stages_up(state) == 3)
    async with grpc.aio.insecure_channel(own_cluster.address) as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SetPlacement(operations_pb2.SetPlacementRequest(placement=BACKBONE))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "transformer on workstation is unavailable" in caught.value.details()
        state = await stub.GetStatus(operations_pb2.GetStatusRequest())
    assert state.placement_setting == detector_pb2.PLACEMENT_UNSPECIFIED


async def test_a_draining_orchestrator_answers_what_it_read_and_exits_well(slow_cluster):
    async with LiveStream(slow_cluster.address) as stream:
        ending = CallEnding(stream.call)
        await stream.send(options(), *(frame(number) for number in range(200)))
        responses = await stream.receive(5)
        slow_cluster.orchestrator.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError):
            while True:
                responses += await stream.receive(1)
    assert ending.code is grpc.StatusCode.UNAVAILABLE
    assert "draining" in ending.details
    # The window's frames were in flight when the signal came.
    assert len(responses) >= 8
    assert [each.frame_id for each in responses] == list(range(len(responses)))
    assert {each.WhichOneof("result") for each in responses} == {"detections"}
    assert slow_cluster.orchestrator.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("stage", ["backbone", "transformer"])
async def test_a_draining_stage_answers_what_it_holds_and_exits_well(tmp_path, stage):
    name, told = f"edge.{stage}", tmp_path / "told"
    cluster = Cluster(
        orchestrator_arguments=("--window", "4"), nodes=("edge",), faulty={name: told}
    )
    draining = cluster.stages[name]
    try:
        async with LiveStream(cluster.address) as stream:
            await stream.send(options(placement=FULL), frame(0))
            await stream.receive(1)
            tell(told, "every:hang")
            await stream.send(*(frame(number) for number in range(1, 5)))
            await until(lambda: draining.metric("tandem_in_flight_frames") == 4)
            draining.process.send_signal(signal.SIGTERM)
            tell(told, "")
            rest = await stream.rest()
        assert draining.process.wait(PATIENCE_SECONDS) == 0
    finally:
        cluster.close()
    assert [each.frame_id for each in rest] == [1, 2, 3, 4]
    assert {each.WhichOneof("result") for each in rest} == {"detections"}


async def test_an_idle_service_exits_well_on_sigterm(own_cluster):
    services = [own_cluster.orchestrator, *own_cluster.stages.values()]
    assert [service.terminate() for service in services] == [0] * 5


async def test_halves_of_different_bundles_never_run_together(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for file in TOY_BUNDLE.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((other / "bundle.json").read_text())
    manifest["name"] = "other"
    (other / "bundle.json").write_text(json.dumps(manifest))
    ports = ("--port", "0", "--metrics-port", "0", "--node", "edge")
    transformer = ServiceProcess("services.transformer", "--bundle", str(other), *ports)
    addresses = json.dumps({"edge": transformer.address})
    backbone = ServiceProcess(
        "services.backbone", "--bundle", str(TOY_BUNDLE), "--transformers", addresses, *ports
    )
    nodes = {"edge": {"backbone": backbone.address, "transformer": transformer.address}}
    orchestrator = ServiceProcess("services.orchestrator", "--nodes", json.dumps(nodes), *ports[:4])
    try:
        responses = await detect(
            orchestrator.address, [options(placement=FULL), frame(1), frame(2)]
        )
        digests = [
            event["digest"]
            for service in (backbone, transformer)
            for event in service.log_events()
            if event["event"] == "engine loaded"
        ]
    finally:
        for service in (orchestrator, backbone, transformer):
            service.close()
    assert len(set(digests)) == 2
    for response in responses:
        assert response.error.code == code_pb2.FAILED_PRECONDITION
        assert all(digest in response.error.message for digest in digests)


async def test_a_node_that_is_not_configured_is_named():
    service = ServiceProcess(
        "services.orchestrator",
        "--port",
        "0",
        "--metrics-port",
        "0",
        "--nodes",
        json.dumps({"edge": {"backbone": "127.0.0.1:1", "transformer": "127.0.0.1:1"}}),
        "--unavailable-after",
        "0.2",
    )
    try:
        (response,) = await detect(service.address, [options(placement=WORKSTATION), frame(1)])
        (down,) = await detect(service.address, [options(placement=FULL), frame(1)])
        (none,) = await detect(service.address, [frame(1)])
    finally:
        service.close()
    assert response.error.code == code_pb2.FAILED_PRECONDITION
    assert "backbone on workstation" in response.error.message
    for answer in (down, none):
        assert answer.error.code == code_pb2.UNAVAILABLE
        assert "backbone on edge" in answer.error.message


@pytest.mark.alone
async def test_a_live_stream_drops_the_oldest_and_answers_every_frame(slow_cluster):
    camera = paced([frame(number) for number in range(100)], 0.01)
    async with LiveStream(slow_cluster.address) as stream:
        await stream.send(options(overload=detector_pb2.OVERLOAD_DROP_OLDEST))

        async def send():
            async for request in camera:
                await stream.send(request)
            return await stream.call.done_writing()

        began = time.monotonic()
        sender = asyncio.ensure_future(send())
        responses = await stream.receive(100)
        await sender
        seconds = time.monotonic() - began
    assert [each.frame_id for each in responses] == list(range(100))
    outcomes = [each.WhichOneof("result") for each in responses]
    # One frame every 50 ms, and those in flight; the newest is never dropped.
    assert 0 < outcomes.count("detections") <= seconds / 0.05 + 4
    assert outcomes.count("dropped") > 20
    assert outcomes.count("detections") + outcomes.count("dropped") == 100
    assert outcomes[-1] == "detections"
    served = [each.timing.total_seconds for each in responses if each.HasField("detections")]
    # Of a hundred frames in a row, the median would wait for two seconds and more.
    assert statistics.median(served) < 1.25


async def test_a_fast_client_is_held_back_to_the_pace_of_the_engine(slow_cluster):
    image = detector_pb2.RawImage(
        width=1024, height=1024, pixel_format=detector_pb2.PIXEL_FORMAT_RGB8, data=bytes(3 << 20)
    )
    sent = 0
    async with LiveStream(slow_cluster.address) as stream:

        async def flood():
            nonlocal sent
            while True:
                await stream.send(
                    detector_pb2.DetectRequest(frame=detector_pb2.Frame(frame_id=sent, raw=image))
                )
                sent += 1

        flooding = asyncio.ensure_future(flood())
        await stream.receive(40)
        # Counted first: while the status is on its way, frames go on being answered and sent.
        sent_by_then = sent
        (session,) = (await status(slow_cluster.address)).sessions
        flooding.cancel()
    # The window is 4; up to 16 more frames of 3 MiB may lie in the transport's buffers, which
    # adapt to the link. Nothing held back, the client would send hundreds in these two seconds.
    assert sent_by_then <= session.frames_answered + 4 + 16


async def test_features_beyond_the_input_policy_are_refused(cluster):
    digest = next(
        event["digest"]
        for event in cluster.stages["edge.transformer"].log_events()
        if event["event"] == "engine loaded"
    )
    sides = {"height": 96 * 32, "width": 128 * 32}
    geometry = {f"{part}_{side}": sides[side] for part in PARTS for side in sides}
    tensor = tensor_pb2.Tensor(
        shape=(1, 8, 96, 128), codec=tensor_pb2.CODEC_FP32, data=bytes(4 * 8 * 96 * 128)
    )
    features = stage_pb2.Features(
        frame_id=1, geometry=stage_pb2.FrameGeometry(**geometry), tensor=tensor
    )
    opening = stage_pb2.TransformerOpen(bundle_digest=digest)
    async with grpc.aio.insecure_channel(cluster.stages["edge.transformer"].address) as channel:
        call = stage_pb2_grpc.TransformerStub(channel).Process(
            iter(
                [
                    stage_pb2.TransformerRequest(open=opening),
                    stage_pb2.TransformerRequest(features=features),
                ]
            )
        )
        _, answer = [response async for response in call]
    assert answer.result.error.code == code_pb2.INVALID_ARGUMENT
    assert "input policy" in answer.result.error.message


async def test_a_stage_stream_has_to_open_first_and_once(cluster):
    async with grpc.aio.insecure_channel(cluster.stages["edge.backbone"].address) as channel:
        stub = stage_pb2_grpc.BackboneStub(channel)
        call = stub.Process(iter([stage_pb2.BackboneRequest(frame=detector_pb2.Frame(frame_id=1))]))
        ending = CallEnding(call)
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in call:
                pass
        assert ending.code is grpc.StatusCode.INVALID_ARGUMENT
        unknown = stage_pb2.BackboneRequest(
            open=stage_pb2.BackboneOpen(downstream_node="elsewhere:1")
        )
        call = stub.Process(iter([unknown]))
        ending = CallEnding(call)
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in call:
                pass
        assert ending.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "elsewhere:1" in ending.details
