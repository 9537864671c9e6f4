"""Pictures that an orchestrator encodes anew before they cross the link to a backbone."""

import asyncio
import itertools

import cv2
import numpy as np
import psutil
import pytest

from common.domain.placement import Placement
from protos.tandem.v1 import detector_pb2
from tandem.client import DetectorClient
from tests.cameras import PICTURES, Camera, boxes_of_pictures, streaming
from tests.harness import Cluster
from tests.streams import detect, encoded, frame, jpeg, options, picture

WORKSTATION = detector_pb2.PLACEMENT_WORKSTATION
# Of this toy's boxes, when H.264 of the default quality comes in between; pixels.
NEAR = 4.0


@pytest.fixture(scope="module")
def cluster():
    cluster = Cluster(
        stage_arguments=("--paced-milliseconds", "5"),
        orchestrator_arguments=("--located-at", "edge", "--frame-codec", "h264"),
    )
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def expected(cluster):
    """The boxes of a camera's pictures as they come, where they cross no link."""

    async def undisturbed():
        async with DetectorClient(cluster.address) as operator:
            await operator.set_placement(Placement.FULL)
            try:
                return await boxes_of_pictures(cluster.address, "fp32")
            finally:
                await operator.set_placement(None)

    return asyncio.run(undisturbed())


def distance(boxes, other):
    """How far those of the shorter list are from their nearest of the other at most, pixels.

    Scores change a little: boxes near the threshold come and go, and others change their order.
    """
    shorter, longer = sorted((boxes, other), key=len)
    apart = np.abs(shorter[:, None] - longer[None]).max(-1)
    return apart.min(1).max() if len(shorter) else np.inf


def assert_boxes_near_own(camera, expected):
    """Every frame's boxes are near those of its own picture, and of no other as much."""
    for number, boxes in camera.boxes.items():
        distances = [distance(boxes, other) for other in expected]
        assert np.argmin(distances) == number % PICTURES, (number, distances)
        assert min(distances) < NEAR, number


def encoders(cluster):
    """The processes that encode, as far as they are running: their fork server's children."""
    orchestrator = psutil.Process(cluster.orchestrator.process.pid)
    running = orchestrator.children(recursive=True)
    return [each for each in running if each.ppid() != orchestrator.pid]


async def test_what_crosses_the_link_is_video_and_gives_nearly_the_same_boxes(cluster, expected):
    camera = Camera("camera", placement="workstation", codec="fp32")
    before = cluster.orchestrator.metric("tandem_link_bytes_total", peer="workstation")
    async with streaming(cluster.address, camera):
        await camera.served(2 * PICTURES)
    assert set(camera.outcomes) == {"detections"}
    assert_boxes_near_own(camera, expected)
    sent_bytes = cluster.orchestrator.metric("tandem_link_bytes_total", peer="workstation") - before
    arrived_bytes = cluster.stages["workstation.backbone"].metric(
        "tandem_link_bytes_total", direction="received"
    )
    mean_bytes = sum(len(jpeg(seed)) for seed in range(PICTURES)) / PICTURES
    assert 0 < sent_bytes / camera.sent < 0.7 * mean_bytes
    assert arrived_bytes >= sent_bytes


async def test_switches_cost_no_frame_and_encode_nothing_that_crosses_no_link(cluster, expected):
    camera = Camera("camera", codec="fp32")
    async with streaming(cluster.address, camera), DetectorClient(cluster.address) as operator:
        for placement in itertools.islice(itertools.cycle(Placement), 8):
            await operator.set_placement(placement)
            await camera.until(lambda pair=placement.node_pair: camera.pair == pair)
            await camera.served(6)
        await operator.set_placement(None)
    assert set(camera.outcomes) == {"detections"}
    assert_boxes_near_own(camera, expected)
    exact = [
        distance(boxes, expected[number % PICTURES]) < 1e-3
        for number, boxes in camera.boxes.items()
    ]
    # Four placements of the eight have the backbone beside the orchestrator.
    assert min(sum(exact), len(exact) - sum(exact)) >= 4 * 6


async def test_pictures_of_other_sizes_kinds_and_none_are_answered_each_for_itself(cluster):
    grey = cv2.imencode(".png", cv2.cvtColor(picture(1), cv2.COLOR_RGB2GRAY))[1].tobytes()
    raw = detector_pb2.RawImage(
        width=160,
        height=120,
        pixel_format=detector_pb2.PIXEL_FORMAT_RGB8,
        data=picture(2).tobytes(),
    )
    frames = [
        *(frame(0), frame(1), frame(2, jpeg(2, 240, 320)), frame(3, jpeg(3, 121, 161))),
        *(frame(4, grey), frame(5, jpeg(5)[:-300]), frame(6), frame(7, b"poison")),
        detector_pb2.DetectRequest(frame=detector_pb2.Frame(frame_id=8, raw=raw)),
        *(frame(9, encoded(picture(9), ".png")), frame(10, jpeg(10, 1, 1)), frame(11)),
        *(detector_pb2.DetectRequest(frame=detector_pb2.Frame(frame_id=12)), frame(13)),
    ]
    responses = await detect(cluster.address, [options(placement=WORKSTATION), *frames])
    assert [each.frame_id for each in responses] == list(range(14))
    failed = {
        each.frame_id: each.error.message
        for each in responses
        if each.WhichOneof("result") == "error"
    }
    assert set(failed) == {5, 7, 10, 12}, failed
    assert "cannot be encoded as h264" in failed[10]


async def test_an_encoder_that_is_killed_costs_no_frame(cluster, expected):
    camera = Camera("camera", placement="workstation", codec="fp32")
    async with streaming(cluster.address, camera):
        await camera.served(10)
        killed = encoders(cluster)
        assert killed
        for each in killed:
            each.kill()
        await camera.served(20)
    assert set(camera.outcomes) == {"detections"}
    assert_boxes_near_own(camera, expected)
