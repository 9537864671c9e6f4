"""Mutated messages to every method: each is told its fault, and nobody else notices."""

import grpc
import numpy as np
import pytest

from benchmarks.hostile import calls
from benchmarks.hostile.attackers import attack
from benchmarks.hostile.calls import Targets
from benchmarks.hostile.honest import Honest
from common.codec import FeatureCodec
from common.domain.codec import Codec
from common.domain.placement import Placement
from common.wire.frames import tensor_to_wire
from protos.tandem.v1 import stage_pb2
from tandem.client import DetectorClient
from tests.cameras import Camera, streaming
from tests.harness import TOY_BUNDLE, Cluster
from tests.streams import LiveStream, frame

SEED = 15
PEERS = 6
MESSAGES = 4_000
METHODS = {
    *(calls.DETECT, calls.BACKBONE, calls.TRANSFORMER, calls.GET_STATUS, calls.WATCH_STATUS),
    *(calls.SET_PLACEMENT, calls.HEALTH_CHECK, calls.HEALTH_WATCH, calls.REFLECTION),
}
INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]


@pytest.fixture(scope="module")
def honest():
    return Honest(TOY_BUNDLE)


def targets(cluster: Cluster) -> Targets:
    processes = [cluster.orchestrator, *cluster.stages.values()]
    return Targets(
        cluster.address,
        cluster.stages["edge.backbone"].address,
        cluster.stages["edge.transformer"].address,
        [each.metrics_url.split("/")[2] for each in processes],
    )


async def test_no_message_harms_a_service_or_another_client(cluster, honest):
    camera = Camera("beside", fps=10)
    async with streaming(cluster.address, camera):
        tally = await attack(targets(cluster), honest, peers=PEERS, messages=MESSAGES, seed=SEED)
        await camera.served(3)
    processes = [cluster.orchestrator, *cluster.stages.values()]
    assert [each.process.poll() for each in processes] == [None] * len(processes)
    assert tally.wrong_codes == []
    assert tally.broken == []
    assert set(camera.outcomes) <= {"detections", "dropped"}
    assert tally.largest_answer_bytes <= 1000
    lines = [line for each in processes for line in each.log_text().splitlines()]
    assert max(len(line) for line in lines) <= 1000
    assert sum(len(line) for line in lines) <= 1000 * tally.messages
    # What was meant to be tried has been.
    assert tally.rejected >= tally.messages // 3
    assert tally.rejected < tally.messages
    assert {name.split()[0] for name in tally.codes} >= METHODS


async def test_enormous_features_are_their_sender_s_fault(cluster, honest):
    """A sound engine makes infinities of them, and would be taken for a failing one."""
    shape = (1, 8, 3, 4)
    values = FeatureCodec().encode(np.full(shape, 3e38, np.float32), Codec.FP32)
    features = honest.features_like(tensor_to_wire(values))
    messages = [honest.transformer_opening()]
    for number in range(4):
        features.frame_id = number
        messages.append(stage_pb2.TransformerRequest(features=features))
    channel = calls.channel_to(cluster.stages["edge.transformer"].address)
    sent = [each.SerializeToString() for each in messages]
    exchange = await calls.stream(channel, calls.TRANSFORMER, sent)
    await channel.close()
    results = [stage_pb2.StageResponse.FromString(each).result for each in exchange.answers[1:]]
    assert [each.error.code for each in results] == [INVALID] * 4
    assert "larger than 65536" in results[0].error.message


async def test_frames_that_are_refused_close_no_route():
    """A copy of one, sent to warm up where frames are to go, would be refused there as well."""
    cluster = Cluster(orchestrator_arguments=("--unavailable-after", "0.5"))
    bad = [frame(number, b"no picture") for number in range(60)]
    try:
        async with (
            DetectorClient(cluster.address) as operator,
            LiveStream(cluster.address) as stream,
        ):
            codes = []
            for number, placement in enumerate((Placement.FULL, Placement.WORKSTATION)):
                await operator.set_placement(placement)
                await stream.send(*bad[30 * number : 30 * number + 30])
                codes += [each.error.code for each in await stream.receive(30)]
    finally:
        cluster.close()
    assert codes == [INVALID] * 60
