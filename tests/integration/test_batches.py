"""Frames of many streams are executed as batches, and no stream can tell. Runs on Python 3.8."""

import asyncio
import statistics

import numpy as np
import pytest
from google.rpc import code_pb2

from common.domain.placement import Stage
from protos.tandem.v1 import tensor_pb2
from tests.faulty import tell
from tests.harness import Cluster
from tests.streams import boxes, detect, encoded, frame, jpeg, options

STREAMS = 16
FRAMES = 12
# Longer than a busy machine takes to bring the next frame, so that frames are put together.
PACE_MS, BATCH_MS = 60, 80
PACED = ("--paced-milliseconds", str(PACE_MS), "--paced-batch", f"8={BATCH_MS}")
BATCHES = (*PACED, "--max-batch", "8")
WHITE = encoded(np.full((120, 160, 3), 255, np.uint8), ".png")


def requests_of(stream):
    """A stream's own pictures, which no other stream sends."""
    pictures = [frame(number, jpeg(1000 * stream + number)) for number in range(FRAMES)]
    return [options(codec=tensor_pb2.CODEC_FP32), *pictures]


async def all_streams(address):
    return await asyncio.gather(*(detect(address, requests_of(each)) for each in range(STREAMS)))


def executions(process, stage):
    """Executions of a stage's engine, and the frames that were executed."""
    counted = (
        process.metric(f"tandem_batch_frames_{what}", stage=stage.value)
        for what in ("count", "sum")
    )
    return tuple(counted)


async def test_batches_give_the_answers_of_single_frames():
    cluster = Cluster(stage_arguments=("--max-batch", "1"), nodes=("edge",))
    try:
        expected = await all_streams(cluster.address)
        for stage in Stage:
            count, frames = executions(cluster.stages[f"edge.{stage.value}"], stage)
            # Frames that a busy machine has wait for too long are sent again.
            assert count == frames >= STREAMS * FRAMES
    finally:
        cluster.close()
    cluster = Cluster(stage_arguments=BATCHES, nodes=("edge",))
    try:
        answers = await all_streams(cluster.address)
        for stage in Stage:
            count, frames = executions(cluster.stages[f"edge.{stage.value}"], stage)
            assert frames >= STREAMS * FRAMES
            # The first frames come one by one.
            assert frames / count > 1.5
    finally:
        cluster.close()
    for own, own_expected in zip(answers, expected):
        assert [each.frame_id for each in own] == list(range(FRAMES))
        for response, reference in zip(own, own_expected):
            assert boxes(reference).shape == (5, 6)
            np.testing.assert_allclose(boxes(response), boxes(reference), atol=1e-3)
    # Or equal answers would say little.
    assert len({boxes(each).tobytes() for own in expected for each in own}) == STREAMS * FRAMES


async def test_a_half_that_compiles_for_single_frames_only_serves_these(tmp_path):
    faulty = tmp_path / "faulty"
    tell(faulty, "load:single")
    cluster = Cluster(stage_arguments=BATCHES, nodes=("edge",), faulty={"edge.backbone": faulty})
    try:
        answers = await detect(cluster.address, requests_of(0))
    finally:
        cluster.close()
    assert [each.WhichOneof("result") for each in answers] == ["detections"] * FRAMES


async def test_a_bad_frame_spoils_no_other_of_its_batch(tmp_path):
    faulty = tmp_path / "faulty"
    cluster = Cluster(stage_arguments=BATCHES, nodes=("edge",), faulty={"edge.backbone": faulty})
    try:
        tell(faulty, "white:fail")
        bad = [options(), *(frame(number, WHITE) for number in range(FRAMES))]
        good = [detect(cluster.address, requests_of(stream)) for stream in range(4)]
        failed, *answers = await asyncio.gather(detect(cluster.address, bad), *good)
        process = cluster.stages["edge.backbone"]
        count, frames = executions(process, Stage.BACKBONE)
    finally:
        cluster.close()
    assert {each.WhichOneof("result") for each in failed} == {"error"}
    # Where the machine stops a stage, some are told that nothing came of them.
    codes = {each.error.code for each in failed}
    assert code_pb2.INTERNAL in codes
    assert codes <= {code_pb2.INTERNAL, code_pb2.UNAVAILABLE}
    for own in answers:
        assert [each.WhichOneof("result") for each in own] == ["detections"] * FRAMES
    # An engine that is tested meanwhile executes a few more.
    assert frames >= 4 * FRAMES
    assert frames > count


@pytest.mark.alone
async def test_a_camera_waits_for_one_batch_of_all_floods():
    cluster = Cluster(stage_arguments=BATCHES, nodes=("edge",))
    try:
        floods = [
            asyncio.ensure_future(
                detect(cluster.address, [options(), *(frame(number) for number in range(40))])
            )
            for _ in range(6)
        ]
        await asyncio.sleep(0)
        waits = []
        for number in range(5):
            (response,) = await detect(cluster.address, [options(), frame(number)])
            waits.append(response.timing.backbone.queue_seconds)
        assert not all(flood.done() for flood in floods)
        await asyncio.gather(*floods)
    finally:
        cluster.close()
    # The rest of the batch under way, and its own; half as much again for a busy machine.
    assert statistics.median(waits) < 1.5 * 2 * BATCH_MS / 1000


@pytest.mark.parametrize("arguments", [(*PACED[:2], "--max-batch", "8"), BATCHES])
async def test_the_log_says_whether_batches_are_on(arguments):
    cluster = Cluster(stage_arguments=arguments, nodes=("edge",))
    try:
        await detect(cluster.address, [options(), frame(0)])
        for stage in Stage:
            events = cluster.stages[f"edge.{stage.value}"].log_events()
            (told,) = [each for each in events if str(each["event"]).startswith("batches are")]
            expected = "on" if arguments == BATCHES else "off"
            assert told["event"] == f"batches are {expected}"
            assert told["frames"] == 8
    finally:
        cluster.close()
