"""Numbers of objects in results: in this process, on pictures, and over streams that began anew."""

import json

import pytest

from common.domain.detections import DetectionOptions
from common.domain.errors import InvalidInputError
from tandem.cli.console import sentence
from tandem.result_tracks import ResultTracks, TrackNumbers
from tandem.sinks.base import result_to_json
from tests.unit.tandem.factories import detection, result


def numbers(results):
    return [[one.track_id for one in each.detections] for each in results]


def test_results_get_numbers_and_lose_what_was_not_asked_for():
    tracks = ResultTracks(DetectionOptions(0.7, 1))
    assert (tracks.options.score_threshold, tracks.options.max_detections) == (0.1, 0)
    frames = [
        result(detections=(detection(), detection(box=(50, 50, 80, 80), score=0.8))),
        result(detections=(detection(score=0.2),)),
        result(error=InvalidInputError("no picture")),
        result(detections=(detection(box=(6, 6, 31, 21)),)),
    ]
    found = list(tracks.added(iter(frames)))
    assert numbers(found) == [[1], [], [], [1]]
    assert found[2].error is frames[2].error


def test_numbers_of_a_stream_that_began_anew_are_new():
    tracked = TrackNumbers()
    first = (detection(), detection())
    one, two, none = (number_of(first[0], number) for number in (1, 2, None))
    assert tracked.of((two, one)) == (two, one)
    tracked.stream_lost()
    assert tracked.of((one, none)) == (number_of(one, 3), none)
    tracked.stream_lost()
    assert tracked.of((one,)) == (number_of(one, 4),)


def number_of(one, number):
    return type(one)(**{**vars(one), "track_id": number})


def test_json_and_lines_name_the_object():
    numbered = result(detections=(number_of(detection(), 7), detection()))
    told = json.loads(json.dumps(result_to_json(numbered)))["detections"]
    assert [one.get("track_id") for one in told] == [7, None]
    assert "track_id" not in told[1]
    assert "person #7 90% at" in sentence("picture", numbered)


@pytest.mark.parametrize("number", [None, 12])
def test_a_drawn_label_holds_the_number(number):
    from tandem.drawing import label_text

    expected = "person #12 90%" if number else "person 90%"
    assert label_text(number_of(detection(), number)) == expected
