"""A backbone that serves some places' frames only, whatever the orchestrator is told to send.

Also on Python 3.8.
"""

import grpc
import pytest

from common.domain.placement import Stage
from protos.tandem.v1 import detector_pb2, stage_pb2, stage_pb2_grpc
from services.arguments import stage_arguments
from tests.harness import TOY_BUNDLE, Cluster, ServiceProcess
from tests.streams import detect, frame, options

REFUSED = "serves only frames of workstation, and not those of 'edge'"


class WrongOrchestrator(Cluster):
    """Its workstation keeps to its own frames; its orchestrator would send those of the edge."""

    def _start(self, module, *arguments, **more):
        if module == "services.backbone" and "workstation" in arguments:
            arguments = (*arguments, "--frames-of", "workstation")
        return super()._start(module, *arguments, **more)


@pytest.fixture(scope="module")
def wrong():
    running = WrongOrchestrator(
        orchestrator_arguments=("--located-at", "edge", "--unavailable-after", "0.5")
    )
    yield running
    running.close()


async def test_no_picture_goes_where_it_is_not_served(wrong):
    asked = options(placement=detector_pb2.PLACEMENT_WORKSTATION)
    responses = await detect(wrong.address, [asked, frame(0), frame(1)])
    assert [each.error.code for each in responses] == [
        grpc.StatusCode.FAILED_PRECONDITION.value[0]
    ] * 2
    assert all(REFUSED in each.error.message for each in responses)
    backbone = wrong.stages["workstation.backbone"]
    assert backbone.metric("tandem_link_bytes_total", direction="received") == 0


async def test_the_automatic_choice_finds_the_backbone_that_serves_them(wrong):
    responses = await detect(wrong.address, [frame(each) for each in range(4)])
    assert [each.WhichOneof("result") for each in responses] == ["detections"] * 4
    backbone = wrong.stages["workstation.backbone"]
    assert backbone.metric("tandem_link_bytes_total", direction="received") == 0


@pytest.fixture(scope="module")
def backbone():
    arguments = stage_arguments(TOY_BUNDLE, "edge", Stage.BACKBONE, "127.0.0.1:0", {})
    process = ServiceProcess("services.backbone", *arguments, "--frames-of", "edge, attic")
    yield process
    process.close()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "serves only frames of attic, edge, and not those of an unknown place"),
        ("orchestrator", "not those of 'orchestrator'"),
        ("Edge", "not those of 'Edge'"),
        ("edge,attic", "not those of 'edge,attic'"),
        # Past the check; there is no such transformer.
        ("attic", "unknown downstream node"),
    ],
)
async def test_a_stream_is_refused_before_it_brings_a_frame(backbone, place, message):
    opening = stage_pb2.BackboneOpen(
        context=stage_pb2.StreamContext(sender="orchestrator", frames_from=place),
        downstream_node="cellar",
    )
    async with grpc.aio.insecure_channel(backbone.address) as channel:
        call = stage_pb2_grpc.BackboneStub(channel).Process()
        await call.write(stage_pb2.BackboneRequest(open=opening))
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call.read()
    assert told.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert message in told.value.details()
