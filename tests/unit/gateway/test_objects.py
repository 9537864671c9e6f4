"""Which objects are before a camera: appeared, changed, left."""

import json

from services.gateway.events.forms import event_json, plain
from services.gateway.events.objects import CameraObjects
from tests.unit.gateway.frames import found


def kinds(events):
    return [(event.kind.value, event.after.track_id) for event in events]


def watched(objects, frames, first_second=0.0, every_seconds=0.1):
    told = []
    for number, detections in enumerate(frames):
        told += objects.look(detections, first_second + number * every_seconds)
    return kinds(told)


def test_an_object_appears_once_it_is_certain_and_leaves_once_it_is_gone():
    objects = CameraObjects("door")
    assert watched(objects, [[found(1)]] * 2) == []
    assert objects.counts == {}
    assert watched(objects, [[found(1)]], 0.2) == [("new", 1)]
    assert objects.counts == {"person": 1}
    assert watched(objects, [[]] * 29, 0.3) == []
    (left,) = objects.look([], 3.3)
    assert kinds([left]) == [("end", 1)]
    assert (left.after.started_at_seconds, left.after.seen_at_seconds) == (0.0, 0.2)
    assert left.after.ended_at_seconds == 3.3
    assert objects.counts == {}


def test_what_was_never_certain_is_never_told():
    assert watched(CameraObjects("door"), [[found(1)], *[[]] * 60]) == []


def test_detections_without_a_track_are_no_objects():
    assert watched(CameraObjects("door"), [[found(None)]] * 20) == []


def test_an_object_is_told_again_when_it_moved_or_was_seen_better_and_not_for_every_frame():
    objects = CameraObjects("door")
    assert watched(objects, [[found(1)]] * 30) == [("new", 1)]
    moving = [[found(1, x=10.0 + 5 * step)] for step in range(20)]
    assert watched(objects, moving, 3.0) == [("update", 1)] * 2
    better = [[found(1, x=105.0, score=0.99)]] * 10
    assert watched(objects, better, 10.0) == [("update", 1)]


def test_a_slow_camera_may_miss_an_object_in_two_frames():
    objects = CameraObjects("door")
    frames = [[found(1)]] * 3 + [[], [], [found(1)], [], [], []]
    assert watched(objects, frames, every_seconds=2.0) == [("new", 1), ("end", 1)]


def test_a_lost_camera_shows_nothing_any_more():
    objects = CameraObjects("door")
    watched(objects, [[found(1), found(2, x=200.0, label="cat")]] * 3)
    assert objects.counts == {"person": 1, "cat": 1}
    assert kinds(objects.lose(5.0)) == [("end", 1), ("end", 2)]
    assert objects.lose(6.0) == []


def test_an_event_is_told_in_frigates_words():
    objects = CameraObjects("Front door")
    events = []
    for number in range(3):
        events += objects.look([found(7, score=0.8 + number / 20)], 100.0 + number)
    (new,) = events
    told = json.loads(json.dumps(event_json(new)))
    assert told["type"] == "new"
    assert told["after"] == {
        "id": "100.000000-front_door-7",
        "camera": "Front door",
        "track_id": 7,
        "label": "person",
        "frame_time": 102.0,
        "start_time": 100.0,
        "end_time": None,
        "seconds": 2.0,
        "score": 0.9,
        "top_score": 0.9,
        "box": [10, 10, 50, 90],
        "area": 3200,
        "active": True,
        "false_positive": False,
        "has_snapshot": False,
        "has_clip": False,
        "current_zones": [],
        "entered_zones": [],
    }
    (end,) = objects.lose(110.0)
    told = event_json(end)
    assert (told["type"], told["after"]["seconds"], told["after"]["active"]) == ("end", 10.0, False)
    assert told["before"]["end_time"] is None


def test_names_of_topics_are_plain():
    assert [plain(name) for name in ("Front door", "a/b+#", "Straße 1", "+")] == [
        "front_door",
        "a_b",
        "stra_e_1",
        "_",
    ]
