import json

import pytest

from common.domain.errors import ConfigurationError
from detr.coco.average_precision import ResultRow
from tandem.evaluation.answers import Answer, AnswerFile, results

SETTINGS = {"set": "0123", "placement": "full", "codec": None}


def answer(image_id, detections=2):
    rows = [ResultRow(image_id, 0.1, 0.2, 1 / 3, 4.0, 0.7 / (n + 1), 16) for n in range(detections)]
    return Answer(image_id, 0.25, 1234, tuple(rows))


@pytest.fixture
def path(tmp_path):
    """Two answers, the second without detections."""
    path = tmp_path / "run" / "answers.jsonl"
    with AnswerFile(path, SETTINGS) as file:
        file.append(answer(3))
        file.append(answer(5, detections=0))
    return path


def test_answers_come_back_as_they_were(path):
    with AnswerFile(path, SETTINGS) as file:
        assert file.resumed == 2
        file.append(answer(7))
    with AnswerFile(path, SETTINGS) as file:
        assert file.answers == [answer(3), answer(5, detections=0), answer(7)]


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_half_written_line_is_dropped(path, kept):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:kept])
    with AnswerFile(path, SETTINGS) as file:
        assert file.answers == [answer(3)]
        file.append(answer(9))
    with AnswerFile(path, SETTINGS) as file:
        assert [each.image_id for each in file.answers] == [3, 9]


def test_a_file_that_was_killed_before_its_settings_begins_anew(path):
    path.write_text('{"set": "01')
    with AnswerFile(path, SETTINGS) as file:
        assert file.resumed == 0


def test_other_settings_are_refused_by_name(path):
    other = {**SETTINGS, "placement": "backbone", "codec": "q4"}
    with pytest.raises(ConfigurationError) as caught, AnswerFile(path, other):
        pass
    assert "placement was full, is backbone; codec was not given, is q4" in str(caught.value)
    assert "set was" not in str(caught.value)


@pytest.mark.parametrize("text", ["hello\n", '{"set": "0123"}\n{"image_id": 3}\n', "{}\n[1]\n"])
def test_what_is_no_such_file_is_refused_and_kept(path, text):
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="is not a run"), AnswerFile(path, SETTINGS):
        pass
    assert path.read_text() == text


def test_results_are_in_coco_s_format():
    (first, second) = results([answer(3)])
    assert first == {
        "image_id": 3,
        "category_id": 16,
        "bbox": [0.1, 0.2, 1 / 3, 4.0],
        "score": 0.7,
    }
    assert second["score"] == 0.35
    assert json.loads(json.dumps(first)) == first
