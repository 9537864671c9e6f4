"""The largest frame that a client may send passes every hop, also as a copy with a longer id."""

from google.rpc import code_pb2

from common.domain.placement import Stage
from common.server.options import channel_options
from common.wire.connections import open_channel
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from tests.harness import Cluster
from tests.streams import detect, frame

LIMIT_BYTES = 1 << 20
LONGEST_ID = (1 << 64) - 1


def largest(frame_id):
    """A request of exactly the limit; no picture."""
    data = bytes(LIMIT_BYTES)
    request = frame(frame_id, data)
    return frame(frame_id, data[: LIMIT_BYTES - (request.ByteSize() - LIMIT_BYTES)])


async def test_the_largest_frame_gets_an_answer_of_its_own():
    cluster = Cluster(
        stage_arguments=("--max-message-mebibytes", "1"),
        orchestrator_arguments=("--max-message-mebibytes", "1"),
    )
    try:
        request = largest(1)
        assert request.ByteSize() == LIMIT_BYTES
        first, second = await detect(cluster.address, [request, frame(2)])
        stage = cluster.stages["edge.backbone"].address
        async with open_channel(stage, channel_options(LIMIT_BYTES)) as channel:
            opening = stage_pb2.BackboneOpen(downstream_node="edge")
            stream = await StageStream.open(
                channel, Stage.BACKBONE, stage_pb2.BackboneRequest(open=opening), "backbone"
            )
            copy = detector_pb2.Frame(frame_id=LONGEST_ID, encoded=request.frame.encoded)
            copied = await stream.ask(stage_pb2.BackboneRequest(frame=copy), LONGEST_ID)
            await stream.close()
    finally:
        cluster.close()
    assert first.error.code == copied.error.code == code_pb2.INVALID_ARGUMENT
    assert second.HasField("detections")
