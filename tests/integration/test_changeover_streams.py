"""Streams of video, and those that begin just then, go on while both nodes change their bundle."""

import asyncio
import os
import signal
from dataclasses import dataclass, field
from itertools import groupby
from typing import Dict

import pytest

from common.domain.video import VideoCodec, VideoFormat
from protos.tandem.v1 import detector_pb2
from tandem.client import DetectorClient
from tests.bundles import version_of_toy
from tests.cameras import assert_own_boxes, streaming
from tests.changing import served, until_one_is_loaded
from tests.harness import Cluster
from tests.streams import detect, frame, options
from tests.video_cameras import GROUP_FRAMES, VideoCamera, boxes_of_clip, clip

# Of video, frames that a new decoder is sent at once to catch up with.
MOST_CAUGHT_UP = 8


@dataclass
class NamedCamera(VideoCamera):
    """A camera that notes with which version of the bundle each frame was served."""

    bundles: Dict[int, str] = field(default_factory=dict)

    def _take(self, result):
        if result.detections:
            self.bundles[result.frame_id] = result.detections[0].category_name.split()[0]
        super()._take(result)


class Nodes:
    """Two nodes, whose settings name a link to one of two versions of the bundle."""

    def __init__(self, folder):
        self._folder = folder
        self.bundles = {name: version_of_toy(folder, name) for name in ("first", "second")}
        (folder / "current").symlink_to("first")
        self.cluster = Cluster(
            folder / "current",
            ("--bundles", str(folder), "--paced-milliseconds", "10"),
            ("--health-interval-seconds", "0.2", "--unavailable-after", "30"),
        )

    async def deploy(self, name):
        async with DetectorClient(self.cluster.address) as operator:
            await operator.deploy(name, self.bundles[name].digest)

    def hang_up(self, name, *nodes):
        """Have all stages of some nodes read their settings' folder, now of this version."""
        beside = self._folder / "beside"
        beside.symlink_to(name)
        os.replace(str(beside), str(self._folder / "current"))
        for stage, process in self.cluster.stages.items():
            if stage.split(".")[0] in nodes:
                process.process.send_signal(signal.SIGHUP)

    async def serves(self, name):
        """Wait until every stage does."""
        async with DetectorClient(self.cluster.address) as client:
            async for state in client.watch_status(0.1):
                if served(state) == {name}:
                    return

    async def detect(self, placement):
        """The version with which a stream of one frame is served."""
        asked = [options(placement=placement), frame(1)]
        (answer,) = await detect(self.cluster.address, asked)
        assert answer.WhichOneof("result") == "detections", answer
        return answer.detections.detections[0].category_name.split()[0]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    running = Nodes(tmp_path_factory.mktemp("bundles"))
    yield running
    running.cluster.close()


@pytest.mark.parametrize("codec", VideoCodec)
async def test_video_changes_at_a_key_frame_or_just_behind_it(nodes, codec):
    expected = await boxes_of_clip(nodes.cluster.address, codec)
    video = VideoFormat(codec)
    camera = NamedCamera("camera", placement="backbone", units=clip(codec), video=video)

    async def until(name):
        await camera.until(lambda: list(camera.bundles.values())[-5:] == [name] * 5)

    async with streaming(nodes.cluster.address, camera):
        await until("first")
        await nodes.deploy("second")
        await until("second")
        # Or the decoder of before would be there still, with little to catch up with.
        await until_one_is_loaded(nodes.cluster)
        nodes.hang_up("first", "edge", "workstation")
        await until("first")
    assert set(camera.outcomes) == {"detections"}
    assert_own_boxes(camera, expected)
    versions = [camera.bundles[number] for number in range(camera.sent)]
    assert [name for name, _ in groupby(versions)] == ["first", "second", "first"]
    changes = [number for number in camera.ids[1:] if versions[number] != versions[number - 1]]
    assert all(number % GROUP_FRAMES <= MOST_CAUGHT_UP for number in changes), changes


async def test_a_stream_that_begins_while_stages_change_waits_for_the_other_half(nodes):
    await nodes.serves("first")
    nodes.hang_up("second", "edge")
    # Its own halves have changed, and keep the version from before no longer.
    while await nodes.detect(detector_pb2.PLACEMENT_FULL) != "second":
        pass
    split = asyncio.ensure_future(nodes.detect(detector_pb2.PLACEMENT_BACKBONE))
    await asyncio.wait([split], timeout=0.5)
    nodes.hang_up("second", "workstation")
    assert await split == "second"
    await nodes.serves("second")


async def test_streams_that_begin_while_all_stages_change_are_served(nodes):
    before, after = "second", "first"
    nodes.hang_up(after, "edge", "workstation")
    versions = [before]
    while versions[-3:] != [after] * 3:
        asked = [nodes.detect(each) for each in detector_pb2.Placement.values()]
        versions += await asyncio.gather(*asked)
