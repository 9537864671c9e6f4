"""Video through real services: whatever becomes of its route, each frame has its own boxes."""

import asyncio
import itertools

import numpy as np
import pytest

from common.domain.placement import Placement
from protos.tandem.v1 import detector_pb2
from tandem.client import DetectorClient
from tests.cameras import assert_own_boxes, streaming
from tests.harness import Cluster
from tests.streams import detect, options
from tests.video_cameras import VideoCamera, boxes_of_clip, clip
from tests.videos import encoded

H264 = detector_pb2.VideoFormat(codec=detector_pb2.VIDEO_CODEC_H264)


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster(
        stage_arguments=("--paced-milliseconds", "10"),
        orchestrator_arguments=("--max-group-mebibytes", "1"),
    )
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def expected(cluster):
    """The boxes of the clip's frames."""
    return asyncio.run(boxes_of_clip(cluster.address))


def requests(units, first_id=0):
    for number, each in enumerate(units, first_id):
        unit = detector_pb2.AccessUnit(data=each.data, key_frame=each.key_frame)
        frame = detector_pb2.Frame(frame_id=number, encoded_video=unit)
        yield detector_pb2.DetectRequest(frame=frame)


async def test_switches_amid_a_group_change_no_box(cluster, expected):
    camera = VideoCamera("camera")
    async with streaming(cluster.address, camera), DetectorClient(cluster.address) as operator:
        for placement in itertools.islice(itertools.cycle(Placement), 8):
            await operator.set_placement(placement)
            await camera.until(lambda pair=placement.node_pair: camera.pair == pair)
            await camera.served(7)
        await operator.set_placement(None)
    assert set(camera.outcomes) == {"detections"}
    assert cluster.orchestrator.metric("tandem_decode_only_frames_total") > 0
    assert_own_boxes(camera, expected)


async def test_a_stage_that_dies_amid_a_group_costs_no_frame_and_changes_no_box(cluster, expected):
    camera = VideoCamera("camera")
    async with streaming(cluster.address, camera):
        await camera.until(lambda: camera.ids and camera.ids[-1] % 30 == 15)
        name = f"{camera.pair.backbone}.backbone"
        cluster.stages[name].kill()
        await camera.served(40)
    cluster.restart(name).announcement  # noqa: B018 - waits until it is healthy
    assert set(camera.outcomes) == {"detections"}
    assert_own_boxes(camera, expected)


async def test_live_video_that_comes_too_fast_is_dropped_and_decoded(cluster, expected):
    # Its frames are encoded already, so that even a slow machine sends more than two engines take.
    camera = VideoCamera("camera", fps=500.0)
    async with streaming(cluster.address, camera):
        await camera.until(lambda: camera.outcomes["dropped"] > 60 and len(camera.served_at) > 40)
    assert set(camera.outcomes) == {"detections", "dropped"}
    assert_own_boxes(camera, expected)


async def test_a_stream_may_start_amid_a_group(cluster, expected):
    responses = await detect(cluster.address, [options(video=H264), *requests(clip()[25:34])])
    kinds = [each.WhichOneof("result") for each in responses]
    assert kinds == ["error"] * 5 + ["detections"] * 4
    assert "no key frame has come" in responses[0].error.message


async def test_a_group_over_the_limit_is_refused_until_the_next_key_frame(cluster):
    chance = np.random.default_rng(1)
    noise = list(chance.integers(0, 256, (24, 240, 320, 3), dtype=np.uint8))
    units = encoded(noise, keyint=20, qp=4)
    sizes = [len(each.data) for each in units]
    served = sum(total <= 1 << 20 for total in itertools.accumulate(sizes[:20]))
    assert 2 < served < 18
    responses = await detect(cluster.address, [options(video=H264), *requests(units)])
    kinds = [each.WhichOneof("result") for each in responses]
    expected = ["detections"] * served + ["error"] * (20 - served) + ["detections"] * 4
    assert kinds == expected, responses[20]
    assert "max_group_mebibytes" in responses[served].error.message
