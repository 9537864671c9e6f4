"""Video through the client: access units sent, answered, drawn, and sent again."""

import asyncio
from contextlib import aclosing

import grpc
import numpy as np
import pytest

from common.domain.detections import OverloadPolicy
from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from tandem import LocalDetector
from tandem.client import DetectorClient
from tandem.sources import VideoForm
from tests.harness import TOY_BUNDLE
from tests.integration.tandem.toy_orchestrator import ToyDetector, serving
from tests.network_cameras import rtsp_camera
from tests.unit.tandem.factories import write_camera_video, write_video
from tests.unit.tandem.test_passing import read

pytestmark = pytest.mark.slow

H264 = VideoFormat(VideoCodec.H264)
GROUP = 5


def units(count):
    """They hold their own number, and no video: nobody decodes them."""
    return [AccessUnit(bytes([number + 1]), number % GROUP == 0) for number in range(count)]


class VideoDetector(ToyDetector):
    """Ends its first streams with UNAVAILABLE, each after so many answers of its own."""

    def __init__(self, *ends):
        super().__init__()
        self._ends = iter(ends)
        self.streams = []

    async def Detect(self, request_iterator, context):
        end, ids = next(self._ends, None), []
        self.streams.append(ids)
        async for request in request_iterator:
            if request.WhichOneof("request") == "options":
                self.options = request.options
                continue
            ids.append(request.frame.frame_id)
            assert request.frame.encoded_video.data == bytes([request.frame.frame_id + 1])
            yield await self.answer(request.frame, context)
            if len(ids) == end:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")


async def results_of(detector, frames, *, reconnect_seconds=10.0, **options):
    async with (
        serving(detector) as address,
        DetectorClient(address, reconnect_seconds=reconnect_seconds) as client,
    ):
        return [each async for each in client.detect(frames, video=H264, **options)]


async def test_the_options_of_a_stream_say_what_its_video_is():
    detector = VideoDetector()
    results = await results_of(detector, units(3))
    assert [each.frame_id for each in results] == [0, 1, 2]
    assert detector.options.video.codec == 1
    assert detector.streams == [[0, 1, 2]]


@pytest.mark.parametrize("ends", [(8,), (8, 2), (8, 4, 6)])
async def test_a_lost_stream_begins_again_with_its_key_frame(ends):
    detector = VideoDetector(*ends)
    results = await results_of(detector, units(20), max_in_flight=3)
    # None twice, though some were answered twice.
    assert [each.frame_id for each in results] == list(range(20))
    assert all(each.error is None and not each.dropped for each in results)
    assert len(detector.streams) == len(ends) + 1
    for stream in detector.streams[1:]:
        assert stream[0] % GROUP == 0
        assert stream == list(range(stream[0], stream[0] + len(stream)))
    # From the key frame of the first unanswered one, and none before.
    assert detector.streams[1][0] == 5


async def test_where_a_key_frame_is_next_nothing_is_repeated():
    detector = VideoDetector(10)
    results = await results_of(detector, units(20), max_in_flight=1)
    assert [each.frame_id for each in results] == list(range(20))
    assert detector.streams[1][0] == 10


async def test_a_live_stream_goes_on_with_its_group():
    detector, sent = VideoDetector(8), asyncio.Event()

    async def camera():
        for number, unit in enumerate(units(200)):
            yield unit
            if number > 8:
                # Many at first, some of which are dropped; and none is the last for long.
                await asyncio.sleep(0.01 if number < 60 else 0.2)
            if sent.is_set():
                return

    async with serving(detector) as address, DetectorClient(address) as client:
        results = []
        options = {"video": H264, "overload": OverloadPolicy.DROP_OLDEST}
        async for result in client.detect(camera(), **options):
            results.append(result)
            if len(results) > 9 and not result.dropped:
                sent.set()
    ids = [each.frame_id for each in results]
    assert ids == list(range(len(ids)))
    dropped = [each.frame_id for each in results if each.dropped]
    assert dropped
    second = detector.streams[1]
    assert second[0] % GROUP == 0
    # The group of the first frame that is served, whose other frames were dropped already.
    assert second[0] <= dropped[-1] + 1 <= second[0] + GROUP


async def test_without_reconnecting_the_loss_is_told():
    with pytest.raises(UnavailableError, match="draining"):
        await results_of(VideoDetector(3), units(20), reconnect_seconds=0)


@pytest.mark.parametrize(
    ("frames", "video", "told"),
    [
        (units(1), None, "a frame is an access unit: name its codec by `video`"),
        ([b"\xff\xd8\xff"], H264, "in a stream of video it has to be an AccessUnit"),
    ],
)
async def test_pictures_and_video_do_not_mix(frames, video, told):
    async with serving(ToyDetector()) as address, DetectorClient(address) as client:
        with pytest.raises(InvalidInputError, match=told):
            [each async for each in client.detect(frames, video=video)]


SEES = {"score_threshold": 0.0, "max_detections": 3, "codec": "fp32"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_camera_video(folder / "h264.mp4", frames=40, height=96, width=128)
    write_camera_video(folder / "h265.mkv", codec="libx265", height=96, width=128)
    write_video(folder / "b.mp4", frames=12, height=96, width=128)
    return folder


async def detected(address, source, **options):
    async with DetectorClient(address) as client:
        return [each async for each in client.detect_video(str(source), **options)]


def boxes(results):
    return [[vars(found.box) for found in each.detections] for each in results]


@pytest.mark.parametrize("name", ["h264.mp4", "h265.mkv"])
async def test_a_files_access_units_are_answered_with_their_times_and_pixels(cluster, videos, name):
    told = []
    # On one route: another one would be sent the earlier frames of the group as well.
    results = await detected(
        *(cluster.address, videos / name),
        with_pixels=True,
        placement="full",
        tell=told.append,
        **SEES,
    )
    sent, _ = read(videos / name)
    decoded, _ = read(videos / name, VideoForm.PIXELS)
    assert told == []
    assert [each.error for each in results] == [None] * len(sent)
    assert [each.frame_id for each in results] == list(range(len(sent)))
    assert [each.seconds for each in results] == [each.seconds for each in sent]
    assert [each.name for each in results] == [each.name for each in sent]
    sizes = [each.timing.backbone.request_bytes for each in results]
    assert sizes == [len(each.content.data) for each in sent]
    for result, frame in zip(results, decoded, strict=True):
        np.testing.assert_array_equal(result.pixels, frame.pixels()[..., ::-1])
    # What the backbone decoded are the same pixels: boxes are those of a detector without services.
    with LocalDetector(TOY_BUNDLE) as local:
        here = list(local.detect_video(str(videos / name), score_threshold=0.0, max_detections=3))
    assert [each.seconds for each in here] == [each.seconds for each in results]
    for one, other in zip(boxes(here), boxes(results), strict=True):
        assert [list(each.values()) for each in one] == [
            pytest.approx(list(each.values()), abs=1e-3) for each in other
        ]


async def test_b_frames_are_answered_as_jpeg_and_transcoding_can_be_asked_for(cluster, videos):
    told = []
    results = await detected(cluster.address, videos / "b.mp4", tell=told.append, **SEES)
    assert [each.error for each in results] == [None] * 12
    assert "b.mp4: its frames are sent as JPEG: the video has B frames" in told[0]
    jpegs = await detected(cluster.address, videos / "h264.mp4", transcode="jpeg", **SEES)
    assert [each.error for each in jpegs] == [None] * 40
    frames, _ = read(videos / "h264.mp4", VideoForm.JPEG)
    sizes = [each.timing.backbone.request_bytes for each in jpegs]
    assert sizes == [len(each.image.data) for each in frames]


async def test_a_cameras_video_is_answered_live(cluster):
    with rtsp_camera(40, group=5, starts=(2,)) as camera:
        async with (
            DetectorClient(cluster.address) as client,
            aclosing(client.detect_video(camera.url, with_pixels=True, **SEES)) as results,
        ):
            answers = [await anext(results) for _ in range(20)]
    assert [each.frame_id for each in answers] == list(range(20))
    assert all(each.error is None for each in answers)
    assert any(each.detections for each in answers)
    assert all(each.pixels.shape == (48, 64, 3) for each in answers)


async def test_an_orchestrator_that_dies_in_the_midst_of_a_group_costs_no_frame(
    own_cluster, videos
):
    undisturbed = await detected(own_cluster.address, videos / "h264.mp4", **SEES)
    async with DetectorClient(own_cluster.address) as client:
        results = []
        async for result in client.detect_video(str(videos / "h264.mp4"), max_in_flight=4, **SEES):
            results.append(result)
            if len(results) == 12:
                await asyncio.to_thread(own_cluster.orchestrator.kill)
                await asyncio.to_thread(lambda: own_cluster.restart_orchestrator().announcement)
    assert [each.frame_id for each in results] == list(range(40))
    assert [each.error for each in results] == [None] * 40
    assert boxes(results) == boxes(undisturbed)
