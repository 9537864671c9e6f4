"""Nodes of any number and name, and what `Operations` says of them. Also on Python 3.8."""

import re

import grpc
import pytest
import yaml

from common.domain.placement import NodePair
from protos.tandem.v1 import detector_pb2, operations_pb2, operations_pb2_grpc
from services.orchestrator.settings import OrchestratorSettings
from tests.harness import ROOT, Cluster, ServiceProcess
from tests.streams import detect, frame, options, stages_up, status, watch_until

NODES = ("attic", "cellar", "garden")
PLACEMENTS = {"full", "backbone", "transformer", "workstation"}
DOWN = "127.0.0.1:1"


@pytest.fixture(scope="module")
def three():
    running = Cluster(nodes=NODES)
    yield running
    running.close()


def names(state):
    """Each placement that a status shows, by the name of its nodes."""
    return {NodePair(each.nodes.backbone, each.nodes.transformer).name for each in state.placements}


async def operation(address, name, request):
    """The answer, or the error that it ended with."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            return await getattr(operations_pb2_grpc.OperationsStub(channel), name)(request)
        except grpc.aio.AioRpcError as error:
            return error


async def test_three_nodes_serve_and_are_told(three):
    state = await watch_until(three.address, lambda state: stages_up(state) == 6)
    pairs = {f"backbone={one},transformer={other}" for one in NODES for other in NODES}
    assert names(state) == PLACEMENTS | pairs
    assert state.current.backbone in NODES
    wanted = options(backbone_node="attic", transformer_node="garden")
    responses = await detect(three.address, [wanted, *(frame(each) for each in range(3))])
    assert [each.WhichOneof("result") for each in responses] == ["detections"] * 3
    state = await status(three.address)
    served = {each.nodes.backbone: each.frames for each in state.placements if each.frames}
    assert served == {"attic": 3}
    for each in state.placements:
        if each.placement != detector_pb2.PLACEMENT_UNSPECIFIED:
            assert not each.available
            assert "not configured here" in each.reason


async def test_a_placement_of_the_four_names_is_refused_where_their_nodes_are_not(three):
    request = operations_pb2.SetPlacementRequest(placement=detector_pb2.PLACEMENT_FULL)
    refused = await operation(three.address, "SetPlacement", request)
    assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "backbone on edge and transformer on edge, not configured here" in refused.details()
    request = operations_pb2.SetPlacementRequest(backbone_node="cellar", transformer_node="attic")
    set_to = await operation(three.address, "SetPlacement", request)
    assert (set_to.setting.backbone, set_to.setting.transformer) == ("cellar", "attic")
    await operation(three.address, "SetPlacement", operations_pb2.SetPlacementRequest())


@pytest.mark.parametrize(
    "request_",
    [
        operations_pb2.SetPlacementRequest(backbone_node="x" * 2000, transformer_node="attic"),
        operations_pb2.SetPlacementRequest(backbone_node="\n\x00 ü", transformer_node="'\";--"),
        operations_pb2.SetPlacementRequest(backbone_node="attic"),
        operations_pb2.SetPlacementRequest(placement=77),
        operations_pb2.SetPlacementRequest(
            placement=1, backbone_node="attic", transformer_node="attic"
        ),
    ],
    ids=["long", "odd", "one", "unknown", "both"],
)
async def test_what_cannot_be_set_is_the_callers_fault(three, request_):
    refused = await operation(three.address, "SetPlacement", request_)
    assert refused.code() in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    assert not (await status(three.address)).HasField("setting")


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [
        *((10**18, 0), (-(10**18), 0), (2**63 - 1, 0), (315_576_000_001, 0)),
        *((-1, 0), (0, 0), (0, 99_999_999), (0, -500_000_000), (1, -500_000_000)),
        *((1, 10**9), (0, 2**31 - 1), (0, -(2**31))),
    ],
)
async def test_an_interval_that_is_none_is_the_callers_fault(three, seconds, nanos):
    request = operations_pb2.WatchStatusRequest()
    request.interval.seconds, request.interval.nanos = seconds, nanos
    async with grpc.aio.insecure_channel(three.address) as channel:
        call = operations_pb2_grpc.OperationsStub(channel).WatchStatus(request)
        with pytest.raises(grpc.aio.AioRpcError, match="interval") as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("seconds", [1, 10**9, 315_576_000_000])
async def test_an_interval_may_be_long(three, seconds):
    request = operations_pb2.WatchStatusRequest()
    request.interval.seconds = seconds
    async with grpc.aio.insecure_channel(three.address) as channel:
        call = operations_pb2_grpc.OperationsStub(channel).WatchStatus(request)
        assert len((await call.read()).stages) == 6
        call.cancel()


def examples(page):
    """Each configuration of nodes in a page of the documentation."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return [text for text in blocks if "nodes:" in text]


def configurations():
    backbone_alone = {"nodes": {"attic": {"backbone": DOWN}}}
    yield "no stage", {"nodes": {"attic": {}}}, 0
    yield "a backbone alone", backbone_alone, 0
    yield "one node", {"nodes": {"attic": {"backbone": DOWN, "transformer": DOWN}}}, 1
    apart = {"attic": {"backbone": DOWN}, "cellar": {"transformer": [DOWN, "127.0.0.1:2"]}}
    yield "halves apart", {"nodes": apart, "located_at": "attic"}, 1
    both = {"backbone": DOWN, "transformer": DOWN}
    fixed = {"nodes": {"attic": both}, "placement": "backbone=attic,transformer=attic"}
    yield "one node, fixed", fixed, 1
    yield "one node, and a placement that it has not", {**fixed, "placement": "full"}, 1
    for page in ("docs/placement.md", "docs/deployment.md"):
        for number, text in enumerate(examples(page)):
            yield f"{page} {number}", yaml.safe_load(text), 4


CONFIGURATIONS = list(configurations())


def test_the_documentation_has_examples():
    assert len([name for name, _, _ in CONFIGURATIONS if ".md" in name]) >= 2


@pytest.mark.parametrize(
    ("configuration", "pairs"),
    [each[1:] for each in CONFIGURATIONS],
    ids=[each[0] for each in CONFIGURATIONS],
)
async def test_every_configuration_is_told_although_its_stages_are_down(
    tmp_path, configuration, pairs
):
    path = tmp_path / "nodes.yaml"
    path.write_text(yaml.safe_dump(configuration))
    listening = ("--port", "0", "--metrics-port", "0", "--unavailable-after", "0.1")
    running = ServiceProcess("services.orchestrator", "--config", str(path), *listening)
    try:
        state = await status(running.address)
        configured = {name for name in names(state) if not is_unconfigured(state, name)}
        assert len(configured) == pairs
        assert not any(each.available for each in state.placements)
        assert names(state) >= PLACEMENTS
        (response,) = await detect(running.address, [frame(0)])
        assert response.error.code in (
            grpc.StatusCode.UNAVAILABLE.value[0],
            grpc.StatusCode.FAILED_PRECONDITION.value[0],
        )
        assert [
            each.frames for each in (await status(running.address)).placements if each.frames
        ] == []
    finally:
        running.close()


def is_unconfigured(state, name):
    return any(
        "not configured here" in each.reason
        for each in state.placements
        if NodePair(each.nodes.backbone, each.nodes.transformer).name == name
    )


def test_the_examples_are_valid_settings():
    for _, configuration, _ in CONFIGURATIONS:
        OrchestratorSettings(**configuration)
