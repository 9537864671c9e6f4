"""A half with an operator that one node's engine lacks: the other node serves, and all say why."""

import shutil
import signal

import grpc
import pytest

from common.bundle import load_bundle, write_bundle
from common.domain.errors import UnavailableError, UnsupportedGraphError
from common.server.probe import fault_of
from protos.tandem.v1 import stage_pb2, stage_pb2_grpc
from tandem.client import DetectorClient
from tandem.cluster import ClusterOptions, LocalCluster
from tandem.local_detector import LocalDetector
from tests.faulty import tell
from tests.harness import TOY_BUNDLE, Cluster
from tests.integration.tandem.commands import json_of, tandem
from tests.streams import jpeg

FRAMES = 20
SENTENCE = "has no operator Sigmoyd, which transformer.onnx needs"
REMEDY = "run this half on another engine or node"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The toy, whose boxes are made by an operator that ONNX Runtime does not know."""
    folder = tmp_path_factory.mktemp("bundles") / "toy"
    shutil.copytree(TOY_BUNDLE, folder)
    path = folder / "transformer.onnx"
    content = path.read_bytes()
    assert content.count(b"Sigmoid") == 1
    path.write_bytes(content.replace(b"Sigmoid", b"Sigmoyd"))
    write_bundle(folder, load_bundle(folder).manifest)
    return folder


@pytest.fixture(scope="module")
def cluster(folder, tmp_path_factory):
    """Both nodes run it; the workstation's transformer has an engine that knows the operator."""
    told = tmp_path_factory.mktemp("engine") / "told"
    tell(told, "has:Sigmoyd")
    orchestrator = ("--health-interval-seconds", "0.2", "--unavailable-after", "1")
    running = Cluster(folder, (), orchestrator, faulty={"workstation.transformer": told})
    yield running
    running.close()


async def test_frames_go_where_the_operator_is(cluster):
    async with DetectorClient(cluster.address) as client:
        results = [each async for each in client.detect(jpeg(seed) for seed in range(FRAMES))]
        assert [each.error for each in results] == [None] * FRAMES
        assert {each.node_pair.transformer for each in results} == {"workstation"}
        # A stage's reason comes after its state.
        async for status in client.watch_status(0.1):
            if any(SENTENCE in stage.reason for stage in status.stages):
                break
    for one in status.placements:
        assert one.available == (one.node_pair.transformer == "workstation"), one
        assert one.available or SENTENCE in one.reason
    (stage,) = [each for each in status.stages if not each.healthy]
    assert (stage.node, stage.stage.value) == ("edge", "transformer")
    assert stage.reason.startswith("engine onnxruntime")
    assert SENTENCE in stage.reason
    assert REMEDY in stage.reason


def test_commands_name_the_operator(cluster):
    server = ("--server", cluster.address)
    shown = tandem("status", *server, COLUMNS="200").stdout
    (line,) = [each for each in shown.splitlines() if SENTENCE in each]
    assert line.startswith("transformer on edge: engine onnxruntime")
    assert "cannot serve, see below" in shown
    told = json_of(tandem("placement", "--explain", *server, "--json"))["explanation"]
    (full,) = [each for each in told if each.startswith("full: ")]
    assert "cannot serve" in full
    assert SENTENCE in full
    refused = tandem("placement", "full", *server)
    assert refused.returncode != 0
    assert SENTENCE in " ".join(refused.stderr.split())


async def test_a_placement_that_needs_it_is_answered_with_the_reason(cluster):
    async with DetectorClient(cluster.address) as client:
        results = [each async for each in client.detect([jpeg(0)], placement="full")]
    (error,) = [each.error for each in results]
    assert isinstance(error, UnavailableError)
    assert SENTENCE in str(error)


async def test_the_stage_lives_and_refuses_streams_with_the_same_sentence(cluster, folder):
    stage = cluster.stages["edge.transformer"]
    assert SENTENCE in stage.announcement["not_serving"]
    assert stage.process.poll() is None
    opening = stage_pb2.TransformerRequest(
        open=stage_pb2.TransformerOpen(bundle_digest=load_bundle(folder).digest)
    )
    async with grpc.aio.insecure_channel(stage.address) as channel:
        call = stage_pb2_grpc.TransformerStub(channel).Process(iter([opening]))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert raised.value.details() == stage.announcement["not_serving"]
    assert stage.metric("tandem_node_up", stage="transformer") == 0
    assert SENTENCE in fault_of(stage.address)
    loads = [each for each in stage.log_events() if each["event"] == "engine loaded"]
    assert not loads
    assert "Traceback" not in stage.log_text()


async def test_where_no_node_has_it_everything_ends_with_the_sentence(folder, tmp_path):
    with pytest.raises(UnavailableError, match=SENTENCE):
        async with LocalCluster(ClusterOptions(bundle=folder)):
            raise AssertionError
    with pytest.raises(UnsupportedGraphError, match=SENTENCE), LocalDetector(folder):
        raise AssertionError
    (tmp_path / "picture.jpg").write_bytes(jpeg(0))
    detected = tandem("detect", tmp_path / "picture.jpg", "--bundle", folder)
    assert detected.returncode != 0
    assert SENTENCE in " ".join(detected.stderr.split())


async def test_a_stage_that_is_given_another_bundle_serves(folder):
    link = folder.with_name("current")
    link.symlink_to(folder)
    orchestrator = ("--health-interval-seconds", "0.2", "--unavailable-after", "30")
    running = Cluster(link, (), orchestrator, nodes=("edge",))
    try:
        async with DetectorClient(running.address) as client:
            assert not (await client.status()).placements[0].available
            repoint(running, link, TOY_BUNDLE)
            # It waits for both halves.
            results = [each async for each in client.detect([jpeg(0)])]
            assert results[0].error is None
            repoint(running, link, folder)
            notes = ""
            async for status in client.watch_status(0.1):
                notes = " ".join(model.note for stage in status.stages for model in stage.models)
                if SENTENCE in notes:
                    break
            assert all(stage.healthy for stage in status.stages)
            assert "SIGHUP changed nothing" in notes
    finally:
        running.close()


def repoint(cluster, link, folder):
    """Have the stages read another bundle."""
    link.unlink()
    link.symlink_to(folder)
    for stage in cluster.stages.values():
        stage.process.send_signal(signal.SIGHUP)
