"""Stages without an orchestrator: replicas, stopped processes, callers that leave."""

import asyncio
import json
import signal
from typing import NamedTuple

import grpc
import pytest

from common.domain.errors import PreconditionError, UnavailableError
from common.domain.placement import Stage
from common.server.options import channel_options
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from tests.faulty import tell
from tests.harness import TOY_BUNDLE, ServiceProcess
from tests.streams import jpeg
from tests.waiting import PATIENCE_SECONDS, until

FLOOD = 16
ARGUMENTS = ("--bundle", str(TOY_BUNDLE), "--port", "0", "--metrics-port", "0")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The file that tells the first transformer on `far` what its engine does."""
    return tmp_path_factory.mktemp("engine") / "told"


@pytest.fixture(scope="module")
def stages(told):
    """A backbone on `edge`; two transformers on `far`, one on `edge`."""
    started = []

    def start(kind, node, *arguments, package="services", **more):
        own = (*ARGUMENTS, "--node", node, *arguments)
        started.append(ServiceProcess(f"{package}.{kind}", *own, **more))
        return started[-1]

    try:
        near = start("transformer", "edge")
        environment = {"FAULTY_ENGINE": str(told)}
        engine = ("--engine", "faulty")
        obedient = {"package": "tests.faulty", "environment": environment}
        far = [start("transformer", "far", *engine, **obedient), start("transformer", "far")]
        addresses = {"edge": near.address, "far": [each.address for each in far]}
        backbone = start("backbone", "edge", "--transformers", json.dumps(addresses))
        yield {"edge": near, "far": far, "backbone": backbone}
    finally:
        for process in started:
            process.close()


@pytest.fixture
async def channel(stages):
    async with grpc.aio.insecure_channel(
        stages["backbone"].address, channel_options(1 << 26)
    ) as it:
        yield it


async def open_stream(channel, node, replica=0, session="s"):
    opening = stage_pb2.BackboneOpen(
        context=stage_pb2.StreamContext(session_id=session, sender="test"),
        downstream_node=node,
        downstream_replica=replica,
    )
    request = stage_pb2.BackboneRequest(open=opening)
    return await StageStream.open(channel, Stage.BACKBONE, request, "backbone on edge")


def ask(stream, frame_id):
    frame = detector_pb2.Frame(frame_id=frame_id, encoded=jpeg(frame_id))
    return asyncio.ensure_future(stream.ask(stage_pb2.BackboneRequest(frame=frame), frame_id))


class Flood(NamedTuple):
    """Frames that are in the first transformer on `far`, the first of them in its engine."""

    stream: StageStream
    asked: list


@pytest.fixture
async def flood(stages, told, channel):
    """One that stands still, until `told` says otherwise."""
    far = stages["far"][0]
    await until(lambda: far.metric("tandem_in_flight_frames") == 0)
    tell(told, "every:hang")
    stream = await open_stream(channel, "far", session="flood")
    asked = [ask(stream, frame_id) for frame_id in range(FLOOD)]
    await until(lambda: far.metric("tandem_in_flight_frames") == FLOOD)
    await until(told.with_name("hanging").exists)
    yield Flood(stream, asked)
    tell(told, "")
    await stream.close()
    await asyncio.gather(*asked, return_exceptions=True)


async def test_the_opening_chooses_the_replica(stages, channel):
    def served(process):
        placement = "backbone=edge,transformer=far"
        return process.metric("tandem_frames_total", outcome="detections", placement=placement)

    before = [served(each) for each in stages["far"]]
    for replica, count in ((0, 1), (1, 2)):
        stream = await open_stream(channel, "far", replica)
        for frame_id in range(count):
            result = await ask(stream, frame_id)
            assert result.timing.transformer.node == "far"
        await stream.close()
    after = [served(each) for each in stages["far"]]
    assert [now - then for now, then in zip(after, before)] == [1, 2]
    assert served(stages["backbone"]) >= 3


async def test_a_replica_that_is_not_there_is_refused_by_node_and_count(channel):
    with pytest.raises(PreconditionError, match="no transformer 2 on far; it knows 2"):
        await open_stream(channel, "far", 2)
    with pytest.raises(PreconditionError, match="no transformer 1 on edge; it knows 1"):
        await open_stream(channel, "edge", 1)


async def test_a_caller_that_leaves_frees_the_engine(stages, told, channel, flood):
    far = stages["far"][0]
    before = far.metric("tandem_batch_frames_count", stage="transformer")
    await flood.stream.close()
    outcomes = await asyncio.gather(*flood.asked, return_exceptions=True)
    assert {type(each) for each in outcomes} <= {asyncio.CancelledError, UnavailableError}
    await until(lambda: far.metric("tandem_in_flight_frames") <= 1)
    tell(told, "")
    stream = await open_stream(channel, "far", session="next")
    assert (await ask(stream, 1)).WhichOneof("result") == "detections"
    # The execution under way is waited for; the fifteen behind it are not run.
    assert far.metric("tandem_batch_frames_count", stage="transformer") - before <= 2
    await until(lambda: far.metric("tandem_in_flight_frames") == 0)
    await stream.close()


async def test_a_flooding_stream_does_not_starve_another(stages, told, channel, flood):
    far = stages["far"][0]
    camera = await open_stream(channel, "far", session="camera")
    asked = ask(camera, 1)
    await until(lambda: far.metric("tandem_in_flight_frames") == FLOOD + 1)
    # Behind the execution under way, and one of the other stream at the most.
    tell(told, "after2:hang")
    result = await asyncio.wait_for(asked, PATIENCE_SECONDS)
    assert result.WhichOneof("result") == "detections"
    assert sum(each.done() for each in flood.asked) <= 2
    await camera.close()


@pytest.mark.parametrize("which", ["transformer", "backbone"])
async def test_a_stage_that_was_stopped_for_a_while_goes_on_serving(stages, channel, which):
    stopped = stages["backbone"] if which == "backbone" else stages["far"][1]
    stream = await open_stream(channel, "far", 1)
    assert (await ask(stream, 1)).WhichOneof("result") == "detections"
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        asked = [ask(stream, frame_id) for frame_id in (2, 3)]
        # Longer than the silence after which a ping is sent.
        _, waiting = await asyncio.wait(asked, timeout=2.5)
        assert len(waiting) == 2
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    assert [(await each).WhichOneof("result") for each in asked] == ["detections"] * 2
    again = await open_stream(channel, "far", 1)
    assert (await ask(again, 4)).WhichOneof("result") == "detections"
    await again.close()
    await stream.close()
