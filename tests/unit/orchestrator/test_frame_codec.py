"""What is known, predicted and said of pictures that are encoded before they cross a link."""

import asyncio

import pytest
from pydantic import ValidationError

from common.domain.detections import StageTiming
from common.domain.errors import UnavailableError
from common.domain.placement import EDGE, WORKSTATION, Placement, Stage
from common.domain.video import FrameCodec
from common.wire.channels import ServerChannel
from common.wire.stage_client import StageStream
from protos.tandem.v1 import stage_pb2
from services.orchestrator.decision.decider import Decider
from services.orchestrator.decision.explanation import explain
from services.orchestrator.decision.policy import Policy
from services.orchestrator.decision.prediction import predict
from services.orchestrator.estimation.estimates import Estimates, LinkEstimate, StageEstimate
from services.orchestrator.estimation.keeper import EstimateKeeper
from services.orchestrator.session.frame_encoding import FrameEncoder, FrameEncoding
from services.orchestrator.session.turns import Turns
from services.orchestrator.settings import OrchestratorSettings
from tests.unit.orchestrator.toys import ToyBackbone, frame

FULL, THERE = Placement.FULL.node_pair, Placement.WORKSTATION.node_pair


def served(keeper, pair, frame_bytes, now=0.0):
    backbone = StageTiming(node=pair.backbone, request_bytes=frame_bytes)
    transformer = StageTiming(node=pair.transformer, request_bytes=1000)
    keeper.observe(pair, backbone, transformer, now=now, backlogged=False)


def test_the_bytes_of_a_frame_are_those_that_crossed_a_link_without_its_key_frame():
    keeper = EstimateKeeper(EDGE, frame_codec=FrameCodec.H264)
    served(keeper, FULL, 40_000)
    assert keeper.snapshot(0.0).frame_bytes is None
    served(keeper, THERE, 20_000)
    for _ in range(9):
        served(keeper, THERE, 3_000)
        served(keeper, FULL, 40_000)
    assert keeper.snapshot(0.0).frame_bytes == 3_000


def test_without_a_codec_each_frame_counts():
    keeper = EstimateKeeper(EDGE)
    served(keeper, FULL, 40_000)
    served(keeper, THERE, 20_000)
    assert keeper.snapshot(0.0).frame_bytes == 30_000


def estimates(encode_seconds):
    stages = {
        (node, stage): StageEstimate(0.01, 0.01, 9, 0.0)
        for node in (EDGE, WORKSTATION)
        for stage in Stage
    }
    links = {
        (EDGE, WORKSTATION): LinkEstimate(1e6, 0.0, 0.0),
        (WORKSTATION, EDGE): LinkEstimate(1e6, 0.0, 0.0),
    }
    return Estimates(
        stages=stages,
        links=links,
        frame_bytes=3_000,
        feature_bytes=1_000,
        frame_codec=FrameCodec.H264,
        encode_seconds=encode_seconds,
    )


def test_encoding_counts_to_the_latency_and_limits_the_rate_where_a_picture_crosses_a_link():
    quick, slow = (predict(THERE, estimates(seconds), EDGE) for seconds in (0.0, 0.1))
    assert slow.latency_seconds == pytest.approx(quick.latency_seconds + 0.1)
    assert quick.bottleneck == "both stages on workstation"
    assert (slow.frames_per_second, slow.bottleneck) == (10, "encoding frames for the link")
    assert predict(FULL, estimates(0.1), EDGE) == predict(FULL, estimates(0.0), EDGE)


def test_an_explanation_tells_codec_time_and_bytes():
    known = estimates(0.004)
    policy = Policy(located_at=EDGE)
    decision = Decider(policy).decide(0.0, (FULL, THERE), known, {})
    text = "\n".join(explain(decision, known, policy))
    assert "the frame (as h264 in 4 ms, 3 kB) from edge to workstation" in text


def settings(**values):
    return OrchestratorSettings(nodes={}, **values)


def test_each_codec_has_a_quality_unless_one_is_set():
    assert settings().frame_encoding is None
    assert settings(frame_codec="h265").frame_encoding == (FrameCodec.H265, 28)
    assert settings(frame_codec="jpeg", frame_quality=60).frame_encoding == (FrameCodec.JPEG, 60)
    assert settings(frame_codec="h264", frame_quality=0).frame_encoding == (FrameCodec.H264, 0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frame_quality": 23}, "frame_quality needs a frame_codec"),
        ({"frame_codec": "h264", "frame_quality": 52}, "frame_quality of h264 is 0 to 51, not 52"),
        ({"frame_codec": "jpeg", "frame_quality": 0}, "frame_quality of jpeg is 1 to 100, not 0"),
        ({"frame_codec": "av1"}, "frame_codec"),
    ],
)
def test_what_no_encoder_takes_is_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        settings(**values)


async def test_a_picture_that_waited_for_a_stream_that_was_lost_is_told_so():
    # Catches one that finds its encoder gone, and fails for good instead of taking another route.
    toy, turns = ToyBackbone(), Turns()
    async with toy.running():
        channel = ServerChannel(toy.address)
        opening = stage_pb2.BackboneRequest(open=stage_pb2.BackboneOpen())
        stream = await StageStream.open(channel.current, Stage.BACKBONE, opening, "toy")
        encoding = FrameEncoding(FrameCodec.JPEG, 30, lambda seconds: None)
        encoder = FrameEncoder(encoding, asyncio.ensure_future(asyncio.sleep(0, stream)))
        stream.abandon()
        await encoder.ended
        with pytest.raises(UnavailableError):
            await encoder.ask(turns, frame(1), lambda: None)
        await channel.close()
