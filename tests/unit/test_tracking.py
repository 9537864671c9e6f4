"""Which detection is which object, over the frames of one stream."""

import sys
import time

import numpy as np
import pytest

from common.domain.detections import Box, Detection, OverloadPolicy, StreamOptions
from common.domain.errors import PreconditionError
from common.tracking import LOST_AFTER_FRAMES, Tracker
from protos.tandem.v1 import detection_pb2, detector_pb2
from services.orchestrator.session.tracks import SessionTracks


def seen(x, y=50.0, score=0.9, category=1, size=40.0):
    return Detection(category, "", score, Box(x, y, x + size, y + size))


def test_two_objects_keep_their_numbers_whatever_the_order_of_detections():
    tracker = Tracker(0.7)
    for step in range(20):
        left, right = seen(10 + 3 * step), seen(400 - 3 * step, score=0.95)
        sightings = [left, right] if step % 2 else [right, left]
        numbers = tracker.follow(sightings)
        assert dict(zip([one.box.x_min for one in sightings], numbers)) == {
            left.box.x_min: 2,
            right.box.x_min: 1,
        }


def test_an_object_is_followed_through_frames_with_low_scores_only():
    tracker = Tracker(0.7)
    assert tracker.follow([seen(10)]) == [1]
    for step in range(10):
        assert tracker.follow([seen(10 + step, score=0.15)]) == [1]
    assert tracker.follow([seen(200, score=0.15)]) == [None]


def test_a_track_begins_with_the_callers_threshold_and_not_with_noise():
    assert Tracker(0.4).follow([seen(10, score=0.45)]) == [1]
    assert Tracker(0.7).follow([seen(10, score=0.65)]) == [None]
    assert Tracker(0.0).follow([seen(10, score=0.25)]) == [None]


def test_an_object_that_comes_back_in_time_is_the_same_and_later_is_another():
    tracker = Tracker(0.7)
    assert tracker.follow([seen(10)]) == [1]
    for _ in range(LOST_AFTER_FRAMES - 1):
        tracker.follow([])
    assert tracker.follow([seen(10)]) == [1]
    for _ in range(LOST_AFTER_FRAMES + 1):
        tracker.follow([])
    assert tracker.follow([seen(10)]) == [2]


def test_a_second_box_of_the_same_object_has_no_number():
    tracker = Tracker(0.7)
    for _ in range(5):
        assert tracker.follow([seen(10), seen(12, score=0.8)]) == [1, None]


def test_categories_are_followed_apart():
    tracker = Tracker(0.7)
    person, horse = seen(10, category=1), seen(11, category=19)
    assert sorted(tracker.follow([person, horse])) == [1, 2]
    assert tracker.follow([person]) != tracker.follow([horse])


def test_a_crowd_that_never_stays_is_followed_within_bounds():
    random = np.random.default_rng(0)
    tracker = Tracker(0.0)
    started = time.thread_time()
    for _ in range(60):
        corners = random.uniform(0, 2000, (300, 2))
        numbers = tracker.follow([seen(x, y, size=5.0) for x, y in corners])
        known = [number for number in numbers if number is not None]
        assert len(known) == len(set(known)) <= 64
    # Unbounded, the tracks of 30 such frames take minutes.
    assert time.thread_time() - started < 10


@pytest.mark.parametrize("corner", [3e38, -3e38, 0.0, 1e-30])
def test_boxes_beyond_all_frames_are_survived(corner):
    tracker = Tracker(0.0)
    for _ in range(5):
        boxes = [Box(corner, corner, corner, corner), Box(-corner, 0, corner, 3e38)]
        assert len(tracker.follow([Detection(1, "", 0.9, box) for box in boxes])) == 2
    assert None not in tracker.follow([seen(10)])


def test_without_the_library_tracks_are_refused_and_all_else_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "edgefirst.tracker", None)
    with pytest.raises(PreconditionError, match="edgefirst-tracker, which is not installed"):
        SessionTracks(StreamOptions(track=True))
    SessionTracks(StreamOptions()).add(answer(0, seen(10)))


def answer(frame_id, *detections):
    found = [
        detection_pb2.Detection(
            category_id=one.category_id,
            score=one.score,
            box=detection_pb2.Box(**vars(one.box)),
        )
        for one in detections
    ]
    response = detector_pb2.DetectResponse(frame_id=frame_id)
    response.detections.CopyFrom(detection_pb2.Detections(detections=found))
    return response


def told(response):
    return [
        (one.track_id if one.HasField("track_id") else None, round(one.score, 2))
        for one in response.detections.detections
    ]


def test_a_session_asks_for_low_scores_and_tells_what_the_client_asked_for():
    tracks = SessionTracks(StreamOptions(0.7, 1, track=True))
    assert (tracks.options.score_threshold, tracks.options.max_detections) == (0.1, 0)
    first = answer(0, seen(10), seen(300, score=0.8), seen(500, score=0.2))
    tracks.add(first)
    assert told(first) == [(1, 0.9)]
    hidden = answer(1, seen(12, score=0.2))
    tracks.add(hidden)
    assert told(hidden) == []
    again = answer(2, seen(14, score=0.7))
    tracks.add(again)
    assert told(again) == [(1, 0.7)]


def test_a_session_without_tracks_leaves_answers_as_they_are():
    options = StreamOptions(0.7, 1)
    tracks = SessionTracks(options)
    response = answer(0, seen(10), seen(300, score=0.2))
    tracks.add(response)
    assert tracks.options == options
    assert told(response) == [(None, 0.9), (None, 0.2)]


def test_dropped_and_failed_frames_leave_tracks_as_they_are():
    tracks = SessionTracks(StreamOptions(0.7, track=True))
    tracks.add(answer(0, seen(10)))
    for frame_id in range(1, 2 * LOST_AFTER_FRAMES):
        lost = detector_pb2.DetectResponse(frame_id=frame_id)
        lost.error.code = 14
        tracks.add(lost)
        tracks.add(detector_pb2.DetectResponse(dropped=detector_pb2.Dropped()))
    response = answer(100, seen(10))
    tracks.add(response)
    assert told(response) == [(1, 0.9)]


@pytest.mark.parametrize(
    ("overload", "number"), [(OverloadPolicy.DROP_OLDEST, 2), (OverloadPolicy.BLOCK, 1)]
)
def test_a_long_gap_ends_the_tracks_of_a_live_stream_only(overload, number):
    now = [0.0]
    tracks = SessionTracks(StreamOptions(0.7, overload=overload, track=True), lambda: now[0])
    for at in (0.0, 9.0, 18.0, 29.0):
        now[0] = at
        response = answer(int(at), seen(10))
        tracks.add(response)
        assert told(response) == [(number if at == 29.0 else 1, 0.9)]
