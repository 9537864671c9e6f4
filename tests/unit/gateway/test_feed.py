import asyncio

from common.domain.detections import FrameTiming, StageTiming
from common.domain.frames import EncodedImage
from common.domain.placement import NodePair
from services.gateway.cameras.feed import CameraFeed, CameraFrame
from services.gateway.cameras.statistics import CameraStatistics
from services.gateway.live_view.traffic import LinkTraffic, Traffic
from tandem.results import FrameResult

PAIR = NodePair("edge", "workstation")


def result(pair=PAIR, frame_bytes=1000, feature_bytes=100):
    timing = FrameTiming(
        backbone=StageTiming("edge", request_bytes=frame_bytes),
        transformer=StageTiming("workstation", request_bytes=feature_bytes),
        total_seconds=0.1,
    )
    return FrameResult(0, (), None, False, pair, timing, 0.1)


def frame(camera, number):
    return CameraFrame(camera, number, EncodedImage(b"x"), result(), 0.0, 0.1)


def taken(subscription, camera):
    numbers = []
    while (one := subscription.take(camera)) is not None:
        numbers.append(one.number)
    return numbers


def test_the_newest_frame_wins_and_what_it_replaced_is_counted():
    feed = CameraFeed()
    with feed.subscribe() as slow, feed.subscribe(most_waiting=3) as patient:
        for number in range(5):
            feed.publish(frame("a", number))
            feed.publish(frame("b", 10 + number))
        assert (taken(slow, "a"), taken(slow, "b"), slow.left_out) == ([4], [14], 8)
        assert (taken(patient, "a"), patient.left_out) == ([2, 3, 4], 4)
    feed.publish(frame("a", 9))
    assert taken(slow, "a") == []


async def test_cameras_take_turns():
    feed = CameraFeed()
    with feed.subscribe(most_waiting=2) as subscription:
        for camera in ("a", "b"):
            for number in range(2):
                feed.publish(frame(camera, number))
        found = []
        async with asyncio.timeout(60):
            async for one in subscription.frames():
                found.append((one.camera, one.number))
                if len(found) == 4:
                    break
    assert found == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_traffic_is_what_crosses_each_link_now():
    now = 0.0
    traffic = Traffic(lambda: now)
    for now in range(10):
        traffic.note(result(frame_bytes=1000 + now))
    # Those of seconds 4 to 9 count; the window is five seconds.
    frames, features = LinkTraffic, LinkTraffic
    assert traffic.links() == (
        features("edge", "workstation", "features", 120.0, 1.2),
        frames("orchestrator", "edge", "frames", sum(range(1004, 1010)) / 5, 1.2),
    )
    now = 100.0
    assert traffic.links() == ()


def test_a_frame_that_nobody_served_crosses_nothing():
    traffic = Traffic()
    traffic.note(result(pair=None))
    assert traffic.links() == ()


def test_figures_are_of_the_last_seconds():
    now = 0.0
    counted = CameraStatistics(lambda: now)
    for step in range(100):
        now = step / 10
        counted.note_detections(0.2 if step < 80 else 0.4)
    assert counted.frames == 100
    assert 9.9 <= counted.frames_per_second <= 10.3
    assert counted.latency_seconds == 0.2
    now += 4.0
    assert counted.latency_seconds == 0.4
    now += 60.0
    assert (counted.frames_per_second, counted.latency_seconds) == (0.0, 0.0)
    assert round(counted.silent_seconds) == 64
