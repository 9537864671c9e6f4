import json
from contextlib import nullcontext

import pytest

from common.domain.detections import Box
from common.domain.errors import InvalidInputError, ServiceError
from tandem.shipped import (
    FrameMatch,
    Tally,
    TrueObject,
    check_clip_accuracy,
    iou,
    load_objects,
    match_frame,
    tally,
)
from tests.unit.tandem.factories import detection

HERE = Box(0, 0, 10, 10)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Box(0, 0, 10, 10), 1.0),
        (Box(0, 0, 10, 5), 0.5),
        (Box(5, 0, 15, 10), 1 / 3),
        (Box(10, 0, 20, 10), 0.0),
        (Box(20, 20, 30, 30), 0.0),
        (Box(3, 3, 3, 3), 0.0),
    ],
)
def test_iou(other, expected):
    assert iou(HERE, other) == pytest.approx(expected)
    assert iou(other, HERE) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("detections", "objects", "expected"),
    [
        ([], [], FrameMatch(0, 0, 0)),
        ([], [TrueObject(1, HERE)], FrameMatch(0, 1, 0)),
        ([detection(1, box=(0, 0, 10, 10))], [], FrameMatch(0, 0, 1)),
        ([detection(1, box=(0, 0, 10, 5))], [TrueObject(1, HERE)], FrameMatch(1, 0, 0)),
        ([detection(1, box=(0, 0, 10, 4.9))], [TrueObject(1, HERE)], FrameMatch(0, 1, 1)),
        ([detection(2, box=(0, 0, 10, 10))], [TrueObject(1, HERE)], FrameMatch(0, 1, 1)),
        # A second detection of the same object is an invented one.
        ([detection(1, box=(0, 0, 10, 10))] * 2, [TrueObject(1, HERE)], FrameMatch(1, 0, 1)),
        # The surer one chooses first.
        (
            [detection(1, 0.5, (0, 0, 10, 10)), detection(1, 0.9, (0, 0, 10, 9))],
            [TrueObject(1, HERE), TrueObject(1, Box(0, 2, 10, 12))],
            FrameMatch(2, 0, 0),
        ),
    ],
)
def test_match_frame(detections, objects, expected):
    match = match_frame(detections, objects)
    assert match == expected
    assert match.perfect == (expected.missed == 0 and expected.invented == 0)


def test_objects_come_from_a_coco_file_without_its_crowds(tmp_path):
    path = tmp_path / "truth.json"
    one = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}
    content = {"images": [{"id": 7}, {"id": 8}], "annotations": [one, {**one, "iscrowd": 1}]}
    path.write_text(json.dumps(content))
    assert load_objects(path) == {7: [TrueObject(3, Box(1, 2, 4, 6))], 8: []}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"images": [{"id": 1}], "annotations": [{}]}'])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"truth\.json has no COCO annotations"):
        load_objects(path)


def test_frames_add_up():
    matches = [FrameMatch(2, 0, 0), FrameMatch(1, 1, 0), FrameMatch(1, 0, 3)]
    assert tally(matches) == Tally(found=4, missed=1, invented=3, frames=3, perfect_frames=1)


@pytest.mark.parametrize(
    ("model", "found", "invented", "right"),
    [
        ("demo-r50", 941, 11, True),
        ("demo-r34", 884, 32, True),
        ("demo-dfine", 815, 54, True),
        ("demo-r50", 919, 5, False),  # red and blue exchanged
        ("demo-r50", 941, 25, False),
        ("demo-r34", 828, 24, False),  # likewise
        ("detr-r50", 0, 0, True),
    ],
)
def test_a_shipped_model_has_to_find_the_clips_objects(model, found, invented, right):
    clip = Tally(found, 960 - found, invented, frames=240, perfect_frames=0)
    with nullcontext() if right else pytest.raises(ServiceError, match=f"found {found} of"):
        check_clip_accuracy(model, clip)
