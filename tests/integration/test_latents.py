"""Latents that are coded over time: whatever is lost, every frame has its own boxes.

Runs on Python 3.8.
"""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2

from common.bundle import load_bundle
from common.domain.codec import LATENT_CODECS
from common.wire.connections import CallEnding
from common.wire.frames import codec_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2, stage_pb2_grpc, tensor_pb2
from tests.faulty import tell
from tests.harness import TOY_BUNDLE, Cluster, ServiceProcess
from tests.meddling import meddling, refusal
from tests.streams import boxes, detect, encoded, frame, jpeg, options, picture
from tests.waiting import until

FRAMES = 30
NAMES = {1: "person", 3: "car", 17: "cat"}
FINE = tensor_pb2.CODEC_LATENT_FINE
WIDE = picture(0, 120, 160 + FRAMES)


def pan(number):
    """Frame `number` of a slow pan."""
    rgb = np.ascontiguousarray(WIDE[:, number : number + 160])
    return detector_pb2.Frame(frame_id=number, encoded=encoded(rgb, ".png"))


PAN = [pan(number) for number in range(FRAMES)]


async def through(backbone, frames=PAN, codec=FINE):
    """The results of frames that are sent to a backbone, which sends them to node edge."""
    context = stage_pb2.StreamContext(session_id="test", sender="orchestrator", score_threshold=0.0)
    opening = stage_pb2.BackboneOpen(context=context, downstream_node="edge", codec=codec)
    requests = [stage_pb2.BackboneRequest(open=opening)]
    requests += [stage_pb2.BackboneRequest(frame=each) for each in frames]
    async with grpc.aio.insecure_channel(backbone.address) as channel:
        call = stage_pb2_grpc.BackboneStub(channel).Process(iter(requests))
        opened, *answers = [each async for each in call]
    rates = opened.opened.latent_rates
    assert [each.codec for each in rates] == [codec_to_wire(codec) for codec in LATENT_CODECS]
    assert all(0 < each.bytes_per_frame < each.bytes_per_key_frame for each in rates)
    assert not any(each.HasField("average_precision") for each in rates)
    results = [each.result for each in answers]
    assert [each.frame_id for each in results] == [each.frame_id for each in frames]
    return results


@asynccontextmanager
async def backbone_beside(cluster, *meddle, **how):
    """A backbone whose transformer on node edge is meddled with, as by `meddling`."""
    async with meddling(cluster.stages["edge.transformer"].address, *meddle, **how) as address:
        process = ServiceProcess(
            "services.backbone",
            *("--bundle", str(TOY_BUNDLE), "--node", "edge", "--port", "0"),
            *("--metrics-port", "0", "--transformers", f'{{"edge": "{address}"}}'),
        )
        try:
            await asyncio.get_running_loop().run_in_executor(None, lambda: process.announcement)
            yield process
        finally:
            process.close()


@pytest.fixture(scope="module")
def expected(cluster):
    """Each frame's boxes when nothing is disturbed."""
    results = asyncio.run(through(cluster.stages["edge.backbone"]))
    return [boxes(each) for each in results]


def assert_right(results, expected):
    for result, own in zip(results, expected):
        assert result.WhichOneof("result") == "detections", result
        for found in result.detections.detections:
            assert found.category_name == NAMES[found.category_id]
        np.testing.assert_allclose(boxes(result), own, atol=1e-3)


def key_frames(process):
    return {
        reason: process.metric("tandem_key_frames_total", reason=reason)
        for reason in ("first", "size", "missing")
    }


async def test_a_frame_is_coded_given_the_one_before(cluster, expected):
    backbone = cluster.stages["workstation.backbone"]
    results = await through(backbone)
    assert_right(results, expected)
    sizes = [each.timing.transformer.request_bytes for each in results]
    assert max(sizes[1:]) < sizes[0]
    assert key_frames(backbone) == {"first": 1, "size": 0, "missing": 0}
    # Neighbours differ, or equal boxes would say little.
    for one, next_one in zip(expected, expected[1:]):
        assert np.abs(one - next_one).max() > 0.05


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("is_older", [False, True])
async def test_a_message_is_short_if_the_transformer_takes_it(cluster, expected, is_older, step):
    """Also where frames between are missing, as a live stream drops them."""
    frames = PAN[::step]
    sent = []
    async with backbone_beside(cluster, see=sent.append, is_older=is_older) as backbone:
        results = await through(backbone, frames)
    if step == 1:
        assert_right(results, expected)
    sizes = [each.timing.transformer.request_bytes for each in results]
    beside = [each.ByteSize() - size for each, size in zip(sent, sizes)]
    kinds = [each.WhichOneof("request") for each in sent]
    assert kinds == ["features"] + ["features" if is_older else "next_latents"] * len(results[1:])
    long, short = beside[0], beside[1:]
    assert long > 30
    assert set(short) <= ({12} if is_older else {2} if step == 1 else {4})


async def to_transformer(cluster, *requests):
    """What a transformer answers to requests that no backbone of ours would send; its status."""
    opening = stage_pb2.TransformerOpen(bundle_digest=load_bundle(TOY_BUNDLE).digest)
    sent = [stage_pb2.TransformerRequest(open=opening), *requests]
    address = cluster.stages["edge.transformer"].address
    async with grpc.aio.insecure_channel(address) as channel:
        call = stage_pb2_grpc.TransformerStub(channel).Process(iter(sent))
        ending = CallEnding(call)
        answers = []
        with suppress(grpc.aio.AioRpcError):
            async for answer in call:
                answers.append(answer)
        await ending.wait()
        return answers, ending


async def test_a_short_message_that_follows_upon_nothing_ends_its_stream(cluster):
    short = stage_pb2.TransformerRequest(next_latents=b"x")
    (opened,), ending = await to_transformer(cluster, short)
    assert opened.opened.takes_next_latents
    assert ending.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "first frame" in ending.details


async def test_a_short_message_after_a_frame_that_is_not_held_is_aborted(cluster):
    """The frame before was refused, so that its latents are none; its name is known."""
    refused = stage_pb2.Features(frame_id=4, tensor=tensor_pb2.Tensor(codec=FINE, data=b"x"))
    (_, *answers), ending = await to_transformer(
        cluster,
        stage_pb2.TransformerRequest(features=refused),
        stage_pb2.TransformerRequest(next_latents=b"x", skipped_frame_ids=2),
    )
    results = [each.result for each in answers]
    assert [each.frame_id for each in results] == [4, 7]
    assert [each.error.code for each in results] == [
        *(code_pb2.INVALID_ARGUMENT, code_pb2.ABORTED),
    ]
    assert "coded given frame 4" in results[1].error.message
    assert ending.code is grpc.StatusCode.OK


@pytest.mark.parametrize("codec", LATENT_CODECS)
async def test_boxes_do_not_drift(cluster, codec):
    """The last frame of a long stream is as near to fp32 as the first."""
    backbone = cluster.stages["edge.backbone"]
    exact = await through(backbone, codec=tensor_pb2.CODEC_FP32)
    ours = await through(backbone, codec=codec_to_wire(codec))
    errors = [np.abs(boxes(one) - boxes(two)).mean() for one, two in zip(ours, exact)]
    assert 0 < np.mean(errors[-8:]) < 2 * np.mean(errors[:8]) + 0.01


async def test_frames_whose_references_are_lost_are_sent_again_at_once(cluster, expected):
    sent = []

    def lose(features):
        sent.append(len(features.tensor.data))
        is_predicted = features.HasField("reference_frame_id")
        if is_predicted and features.frame_id % 5 == 1:
            return refusal(features, code_pb2.ABORTED)
        return None

    async with backbone_beside(cluster, lose) as backbone:
        results = await through(backbone)
        assert_right(results, expected)
        missing = key_frames(backbone)["missing"]
        assert missing >= 6
        assert len(sent) == FRAMES + missing
        # The bytes of both ways count.
        assert backbone.metric("tandem_link_bytes_total", direction="sent", peer="edge") == sum(
            sent
        )
        assert sum(each.timing.transformer.request_bytes for each in results) == sum(sent)


async def test_a_transformer_that_never_holds_a_reference_is_asked_twice_a_frame(cluster):
    sent = Counter()

    def lose(features):
        sent[features.HasField("reference_frame_id")] += 1
        return refusal(features, code_pb2.ABORTED)

    async with backbone_beside(cluster, lose) as backbone:
        results = await through(backbone)
    assert [each.error.code for each in results] == [code_pb2.ABORTED] * FRAMES
    assert sum(sent.values()) == 2 * FRAMES


async def test_a_frame_that_fails_is_not_sent_again_and_those_after_it_are_right(cluster, expected):
    sent = Counter()

    def fail(features):
        sent[features.frame_id] += 1
        bad = features.frame_id % 3 == 1 and features.frame_id < FRAMES
        return refusal(features, code_pb2.INTERNAL) if bad else None

    async with backbone_beside(cluster, fail) as backbone:
        results = await through(backbone)
    for number, result in enumerate(results):
        if number % 3 == 1:
            assert result.error.code == code_pb2.INTERNAL
        else:
            assert_right([result], [expected[number]])
    assert max(sent.values()) == 1


async def test_a_payload_that_is_damaged_on_the_way_is_its_own_fault(cluster, expected):
    def damage(features):
        if features.frame_id == 5:
            features.tensor.data = features.tensor.data[:-1]

    async with backbone_beside(cluster, damage) as backbone:
        results = await through(backbone)
        assert key_frames(backbone)["missing"] >= 1
    assert results[5].error.code == code_pb2.INVALID_ARGUMENT
    assert_right(results[:5], expected[:5])
    assert_right(results[6:], expected[6:])


async def test_a_payload_longer_than_its_shape_allows_is_its_own_fault(cluster, expected):
    """A reader that took 16 MiB for latents would be busy for minutes, and need gigabytes."""

    def pad(features):
        if features.frame_id == 5:
            features.tensor.data += bytes(16 << 20)

    async with backbone_beside(cluster, pad) as backbone:
        results = await through(backbone)
    assert results[5].error.code == code_pb2.INVALID_ARGUMENT
    assert "are no payload of levels of shape" in results[5].error.message
    assert_right(results[:5], expected[:5])
    assert_right(results[6:], expected[6:])


async def test_a_camera_that_changes_its_size_goes_on(cluster):
    large = [frame(number, jpeg(number, 240, 320)).frame for number in range(10, 15)]
    frames = [*PAN[:5], *large, *PAN[20:25]]
    backbone = cluster.stages["workstation.backbone"]
    before = key_frames(backbone)["size"]
    results = await through(backbone, frames)
    alone = [(await through(backbone, [each]))[0] for each in frames]
    assert_right(results, [boxes(each) for each in alone])
    assert key_frames(backbone)["size"] == before + 2


@pytest.mark.parametrize("ids", [[7] * FRAMES, list(range(FRAMES))[::-1]])
async def test_frames_may_come_with_any_ids(cluster, expected, ids):
    """Frames that another route has lost come late, and a peer may number as it likes."""
    frames = [detector_pb2.Frame(frame_id=n, encoded=each.encoded) for n, each in zip(ids, PAN)]
    assert_right(await through(cluster.stages["edge.backbone"], frames), expected)


async def test_latents_and_features_share_an_engine_that_batches():
    def requests_of(stream):
        codec = FINE if stream % 2 else tensor_pb2.CODEC_FP32
        pictures = [frame(number, jpeg(1000 * stream + number)) for number in range(8)]
        return [options(codec=codec), *pictures]

    def executed():
        """Of each stage: frames, and executions."""
        for stage in ("backbone", "transformer"):
            process = cluster.stages[f"edge.{stage}"]
            frames, executions = (
                process.metric(f"tandem_batch_frames_{what}", stage=stage)
                for what in ("sum", "count")
            )
            yield frames, executions

    # Longer than a busy machine takes to bring the next frame.
    paced = ("--paced-milliseconds", "60", "--paced-batch", "8=80", "--max-batch", "8")
    cluster = Cluster(stage_arguments=paced, nodes=("edge",))
    try:
        alone = [await detect(cluster.address, requests_of(stream)) for stream in range(4)]
        before = list(executed())
        beside = await asyncio.gather(
            *(detect(cluster.address, requests_of(stream)) for stream in range(16))
        )
        for (frames, executions), (frames_before, executions_before) in zip(executed(), before):
            # Frames that a busy machine has wait for too long are sent again.
            assert frames - frames_before >= 16 * 8
            assert (frames - frames_before) / (executions - executions_before) > 1.5
    finally:
        cluster.close()
    for own, others in zip(alone, beside):
        assert_right(others, [boxes(each) for each in own])


async def test_a_part_that_fails_takes_its_stage_out_of_service_until_it_computes(tmp_path):
    told = tmp_path / "faulty"
    cluster = Cluster(
        nodes=("edge",),
        faulty={"edge.transformer": told},
        orchestrator_arguments=("--unavailable-after", "30", "--recovery-seconds", "0.1"),
    )
    process = cluster.stages["edge.transformer"]
    try:
        tell(told, "part:fail")
        requests = [options(codec=FINE), *(frame(number) for number in range(8))]
        answering = asyncio.ensure_future(detect(cluster.address, requests))
        await logged(process, "the engine still fails")
        tell(told, "")
        answers = await answering
    finally:
        cluster.close()
    assert [each.WhichOneof("result") for each in answers][-1] == "detections"


async def logged(process, event):
    """Wait until a service has logged an event."""
    await until(
        lambda: any(each["event"] == event for each in process.log_events()),
        f"{event!r} is not in the log",
    )
