"""A frame that stages fail on, an engine that fails, a stage that is full: nobody else notices."""

import asyncio
import json
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from google.rpc import code_pb2

from common.domain.placement import NodePair
from protos.tandem.v1 import detector_pb2
from services.orchestrator.session.attempts import MOST_REJECTIONS
from tests.cameras import Camera, streaming
from tests.faulty import tell
from tests.harness import TOY_BUNDLE, Cluster, ServiceProcess
from tests.misbehaving import answering, good_answer
from tests.streams import LiveStream, detect, encoded, frame, options, status, watch_until
from tests.waiting import PATIENCE_SECONDS, until, wait_until

PACE = ("--paced-milliseconds", "10")
WHITE = encoded(np.full((120, 160, 3), 255, np.uint8), ".png")
BACKBONES = ("edge.backbone", "workstation.backbone")


@contextmanager
def faulty_cluster(folder, names=BACKBONES, told="", **more):
    """A cluster in which some engines do what `files[name]` says."""
    files = {name: folder / name for name in names}
    for file in files.values():
        tell(file, told)
    running = Cluster(stage_arguments=PACE, faulty=files, **more)
    try:
        yield running, files
    finally:
        running.close()


def poisoned(count, poison_at):
    """Frames of which one is white."""
    return [frame(each, WHITE if each == poison_at else None) for each in range(count)]


def reason_of(state, name):
    node, stage = name.split(".")
    return next(each.reason for each in state.stages if (each.node, each.stage) == (node, stage))


def outcomes_of(responses):
    return [each.WhichOneof("result") for each in responses]


def messages_of(responses):
    return {each.frame_id: each.error.message for each in responses if each.HasField("error")}


async def test_an_engine_that_fails_is_reloaded_and_no_frame_is_the_worse_for_it(tmp_path):
    with faulty_cluster(tmp_path, ("edge.backbone",)) as (cluster, files):
        camera = Camera("camera")
        async with streaming(cluster.address, camera):
            await camera.served(5)
            tell(files["edge.backbone"], "every:fail")
            state = await watch_until(
                cluster.address, lambda state: "3 times" in reason_of(state, "edge.backbone")
            )
            assert "being reloaded" in reason_of(state, "edge.backbone")
            await camera.served(20)
            tell(files["edge.backbone"], "")
            await watch_until(cluster.address, lambda state: not reason_of(state, "edge.backbone"))
            await camera.served(20)
    assert set(camera.outcomes) == {"detections"}
    log = cluster.stages["edge.backbone"]
    assert log.process.returncode is not None


async def test_outputs_that_are_not_finite_open_the_circuit_breaker(tmp_path):
    with faulty_cluster(tmp_path, ("edge.transformer",)) as (cluster, files):
        tell(files["edge.transformer"], "every:nan")
        camera = Camera("camera")
        async with streaming(cluster.address, camera):
            await camera.served(60)
        failed = cluster.stages["edge.transformer"].metric("tandem_frames_total", outcome="error")
    assert set(camera.outcomes) == {"detections"}
    # Those in flight when the breaker opened, and the first after each wait.
    assert 0 < failed < 30


async def test_a_frame_that_fails_on_two_nodes_is_at_fault_and_alone(tmp_path):
    with faulty_cluster(tmp_path, told="white:fail") as (cluster, _):
        camera = Camera("camera")
        async with streaming(cluster.address, camera):
            responses = await detect(cluster.address, [options(), *poisoned(12, poison_at=5)])
            await camera.served(10)
        state = await status(cluster.address)
    assert [each.frame_id for each in responses] == list(range(12))
    assert list(messages_of(responses)) == [5], messages_of(responses)
    error = responses[5].error
    assert error.code == code_pb2.INTERNAL
    assert "backbone on edge" in error.message
    assert "backbone on workstation" in error.message
    assert "0xdead" not in error.message
    assert set(camera.outcomes) == {"detections"}
    assert all(stage.healthy for stage in state.stages)


async def test_many_frames_that_fail_everywhere_take_no_engine_out(tmp_path):
    with faulty_cluster(tmp_path, told="white:fail") as (cluster, _):
        bad = [frame(each, WHITE) for each in range(12)]
        responses = await detect(cluster.address, [options(), *bad, frame(12)])
        state = await status(cluster.address)
        # It was tested each time, and found to be sound.
        await until(
            lambda: any(
                "sound" in event["event"]
                for name in BACKBONES
                for event in cluster.stages[name].log_events()
            )
        )
    assert outcomes_of(responses) == ["error"] * 12 + ["detections"]
    assert all(stage.healthy for stage in state.stages)


async def test_an_unforeseen_error_is_the_frames_own_and_told_as_such(tmp_path):
    with faulty_cluster(tmp_path, told="white:memory") as (cluster, _):
        responses = await detect(
            cluster.address, [options(placement=detector_pb2.PLACEMENT_FULL), *poisoned(12, 5)]
        )
    assert list(messages_of(responses)) == [5], messages_of(responses)
    assert "backbone on edge failed on this frame (MemoryError)" in responses[5].error.message


async def test_a_frame_that_kills_stages_kills_two_at_most_and_harms_nobody(tmp_path):
    replicas = {"edge.backbone": 2, "workstation.backbone": 2}
    names = [*BACKBONES, "edge.backbone.1", "workstation.backbone.1"]
    with faulty_cluster(tmp_path, names, "white:exit", replicas=replicas) as (cluster, _):
        cameras = [Camera("first"), Camera("second")]
        async with streaming(cluster.address, *cameras):
            for camera in cameras:
                await camera.served(5)
            responses = await detect(cluster.address, [options(), *poisoned(12, poison_at=5)])
            for camera in cameras:
                await camera.served(20)
        # That a process has ended comes to be known a little later.
        dead = await until(lambda: two_or_more_ended([cluster.stages[name] for name in names]))
    assert list(messages_of(responses)) == [5], messages_of(responses)
    assert "not sent a third time" in responses[5].error.message
    assert len(dead) == 2
    for camera in cameras:
        assert set(camera.outcomes) == {"detections"}, camera.outcomes


def two_or_more_ended(services):
    ended = [each for each in services if each.process.poll() is not None]
    return ended if len(ended) >= 2 else None


async def test_a_frame_that_hangs_an_engine_is_served_elsewhere(tmp_path):
    with faulty_cluster(tmp_path, ("edge.backbone",)) as (cluster, files):
        camera = Camera("camera")
        async with streaming(cluster.address, camera):
            await camera.served(10)
            tell(files["edge.backbone"], "every:hang")
            await camera.until(lambda: camera.pair and camera.pair.backbone == "workstation")
            await camera.served(20)
            tell(files["edge.backbone"], "")
    assert set(camera.outcomes) == {"detections"}


@contextmanager
def stage_process(folder, told, *arguments, stage="transformer"):
    file = folder / "told"
    tell(file, told)
    process = ServiceProcess(
        f"tests.faulty.{stage}",
        *("--bundle", str(TOY_BUNDLE), "--node", "edge", "--engine", "faulty"),
        *("--port", "0", "--metrics-port", "0", *arguments),
        environment={"FAULTY_ENGINE": str(file)},
    )
    try:
        yield process, file
    finally:
        process.close()


def test_sigterm_while_an_engine_loads_ends_the_service(tmp_path):
    with stage_process(tmp_path, "load:hang", "--grace-seconds", "1") as (process, file):
        assert wait_until(file.with_name("loading").exists), process.log_text()
        began = time.monotonic()
        # The engine loads for ever; the grace is a second.
        assert process.terminate() == 0
        assert time.monotonic() - began < 15
        # It never said that it was serving.
        assert process.process.stdout.read() == ""


async def test_sigterm_while_an_engine_hangs_ends_the_service_in_its_grace(tmp_path):
    names = ("edge.backbone",)
    with faulty_cluster(tmp_path, names, orchestrator_arguments=("--unavailable-after", "0.5")) as (
        cluster,
        files,
    ):
        async with LiveStream(cluster.address) as stream:
            await stream.send(options(placement=detector_pb2.PLACEMENT_FULL), frame(0))
            await stream.receive(1)
            tell(files["edge.backbone"], "every:hang")
            await stream.send(frame(1))
            backbone = cluster.stages["edge.backbone"]
            await until(lambda: backbone.metric("tandem_in_flight_frames") >= 1)
            began = time.monotonic()
            backbone.process.terminate()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, backbone.process.wait, PATIENCE_SECONDS)
            elapsed = time.monotonic() - began
    # Its grace is 20 s, the hang endless.
    assert elapsed < 20 + 15


async def test_a_full_stage_is_left_for_another(tmp_path):
    with faulty_cluster(tmp_path, ()) as (cluster, _):
        first = cluster.stages["edge.backbone"]
        first.terminate()
        crowded = ("--max-sessions", "2")
        cluster._stage_arguments = (*PACE, *crowded)
        cluster.restart("edge.backbone")
        await watch_until(cluster.address, lambda state: all(s.healthy for s in state.stages))
        cameras = [Camera(f"camera {number}") for number in range(6)]
        async with streaming(cluster.address, *cameras):
            for camera in cameras:
                await camera.served(10)
    for camera in cameras:
        assert set(camera.outcomes) == {"detections"}, camera.outcomes


def without_result(frame_id):
    answer = good_answer(frame_id)
    answer.ClearField("detections")
    return answer


def nan_seconds(frame_id):
    answer = good_answer(frame_id)
    answer.timing.backbone.execute_seconds = float("nan")
    return answer


def endless_box(frame_id):
    answer = good_answer(frame_id)
    answer.detections.detections.add(score=0.9).box.x_max = float("inf")
    return answer


def long_name(frame_id):
    answer = good_answer(frame_id)
    answer.timing.transformer.node = "n" * (1 << 20)
    return answer


def unknown_code(frame_id):
    answer = good_answer(frame_id)
    answer.error.code = 77
    return answer


@pytest.mark.parametrize("lie", [without_result, nan_seconds, endless_box, long_name, unknown_code])
async def test_what_a_stage_answers_wrongly_is_served_by_another(lie):
    ports = ("--port", "0", "--metrics-port", "0")
    own = ("--bundle", str(TOY_BUNDLE), "--node", "honest", *ports)
    async with answering(lie) as liar:
        processes = [ServiceProcess("services.transformer", *own)]
        try:
            transformers = json.dumps({"honest": processes[0].address})
            processes.append(
                ServiceProcess("services.backbone", *own, "--transformers", transformers)
            )
            nodes = {
                "liar": {"backbone": liar},
                "honest": {
                    "backbone": processes[1].address,
                    "transformer": processes[0].address,
                },
            }
            processes.append(
                ServiceProcess("services.orchestrator", "--nodes", json.dumps(nodes), *ports)
            )
            address = processes[-1].address
            responses = await detect(address, [frame(each) for each in range(20)])
            (pinned,) = await detect(
                address,
                [options(backbone_node="liar", transformer_node="honest"), frame(1)],
            )
            state = await status(address)
        finally:
            for process in processes:
                process.close()
    assert outcomes_of(responses) == ["detections"] * 20
    assert pinned.error.code in (code_pb2.INTERNAL, code_pb2.UNAVAILABLE)
    assert "liar" in pinned.error.message
    assert len(pinned.error.message) < 1024
    # What it said of itself was not believed.
    liar_pair = NodePair("liar", "honest")
    (told,) = [
        each
        for each in state.placements
        if (each.nodes.backbone, each.nodes.transformer)
        == (liar_pair.backbone, liar_pair.transformer)
    ]
    assert told.frames == 0
    assert all(stage.node == "honest" for stage in state.stages if stage.HasField("estimate"))


async def test_a_frame_that_a_stage_never_has_room_for_is_not_sent_for_ever():
    asked = Counter()

    def answer(frame_id):
        asked[frame_id] += 1
        result = good_answer(frame_id)
        if frame_id == 3:
            result.error.code = code_pb2.RESOURCE_EXHAUSTED
            result.error.message = "no room"
        return result

    ports = ("--port", "0", "--metrics-port", "0")
    transformer = ("--bundle", str(TOY_BUNDLE), "--node", "honest", *ports)
    async with answering(answer) as liar:
        processes = [ServiceProcess("services.transformer", *transformer)]
        try:
            nodes = {"liar": {"backbone": liar}, "honest": {"transformer": processes[0].address}}
            processes.append(
                ServiceProcess("services.orchestrator", "--nodes", json.dumps(nodes), *ports)
            )
            responses = await detect(processes[1].address, [frame(each) for each in range(6)])
        finally:
            for process in processes:
                process.close()
    assert asked[3] == MOST_REJECTIONS
    assert responses[3].error.code == code_pb2.RESOURCE_EXHAUSTED
    assert outcomes_of(responses[:3] + responses[4:]) == ["detections"] * 5


async def test_a_probe_whose_stream_is_refused_is_not_counted():
    ports = ("--port", "0", "--metrics-port", "0")
    own = ("--bundle", str(TOY_BUNDLE), "--node", "honest", *ports)
    refusals, camera = [], Camera("camera")
    async with answering(good_answer, lambda: refusals.append(None)) as liar:
        processes = [ServiceProcess("services.transformer", *own)]
        try:
            transformers = json.dumps({"honest": processes[0].address})
            processes.append(
                ServiceProcess("services.backbone", *own, "--transformers", transformers)
            )
            honest = {"backbone": processes[1].address, "transformer": processes[0].address}
            nodes = {"honest": honest, "liar": {"backbone": liar}}
            processes.append(
                ServiceProcess("services.orchestrator", "--nodes", json.dumps(nodes), *ports)
            )
            async with streaming(processes[2].address, camera):
                await camera.served(1)
                await camera.until(lambda: len(refusals) >= 3)
                state = await status(processes[2].address)
        finally:
            for process in processes:
                process.close()
    assert set(camera.outcomes) == {"detections"}
    assert state.events.probe_frames == 0


async def test_the_only_node_serves_soon_after_its_engine_hung(tmp_path):
    live, other = Camera("live", fps=10), Camera("other", fps=10)
    with faulty_cluster(tmp_path, ("edge.backbone",), nodes=("edge",)) as (cluster, files):
        file = files["edge.backbone"]
        async with streaming(cluster.address, live, other):
            await live.served(10)
            await other.served(10)
            tell(file, "every:hang")
            # Both sessions give the route up.
            await watch_until(cluster.address, lambda told: told.events.failovers["stalled"] >= 2)
            tell(file, "")
            since = time.monotonic()
            await live.served(1)
            await other.served(1)
            assert time.monotonic() - since < 20
