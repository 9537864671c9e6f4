import io
import json
from pathlib import Path

import cv2
import pytest

from client.pictures import decode_picture
from client.sinks import JsonLinesSink, open_sink
from client.sources import SourceFrame, SourceInfo, SourceKind
from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.frames import EncodedImage
from tests.unit.client.factories import detection, encoded, read_video, result

PICTURE = SourceInfo("a.png", SourceKind.PICTURE, 1, None)
FOLDER = SourceInfo("pictures", SourceKind.FOLDER, 2, None)
VIDEO = SourceInfo("v.mp4", SourceKind.VIDEO, None, 12.5)
FRAME = SourceFrame("a.png", EncodedImage(encoded(height=400, width=600)))
FOUND = result(detections=[detection(box=(50, 50, 300, 200))])


def write(path, info, *pairs):
    sink = open_sink(path, info)
    for frame, answer in pairs:
        sink.write(frame, answer)
    sink.close()


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "new/folder/out.png"])
def test_a_picture_with_boxes(tmp_path, name):
    write(tmp_path / name, PICTURE, (FRAME, FOUND))
    drawn = cv2.imread(str(tmp_path / name))
    plain = decode_picture(FRAME.image)
    assert drawn.shape == plain.shape
    assert cv2.absdiff(drawn, plain).max() > 50


def test_a_folder_keeps_the_names(tmp_path):
    video_frame = SourceFrame("v.mp4 frame 3", FRAME.image)
    write(tmp_path / "out", FOLDER, (FRAME, FOUND), (video_frame, result(3)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.png",
        "frame-000003.jpg",
    ]


def test_a_video_is_h264_at_the_sources_rate(tmp_path):
    path = tmp_path / "out.mp4"
    odd = SourceFrame("odd", EncodedImage(encoded(height=401, width=601)))
    write(path, VIDEO, *[(odd, FOUND)] * 7)
    frames, rate, codec = read_video(path)
    assert (len(frames), rate, codec) == (7, 12.5, "h264")
    assert frames[0].shape == (402, 602, 3)


def test_frames_of_other_sizes_are_fitted_into_the_video(tmp_path):
    path = tmp_path / "out.mp4"
    sizes = [(400, 600), (800, 600), (320, 900), (330, 340)]
    frames = [SourceFrame("x", EncodedImage(encoded(height=h, width=w))) for h, w in sizes]
    write(path, FOLDER, *((frame, result(i)) for i, frame in enumerate(frames)))
    assert [frame.shape for frame in read_video(path)[0]] == [(400, 600, 3)] * 4


def test_a_frame_that_is_no_picture_is_left_out_if_the_server_refused_it(tmp_path):
    broken = SourceFrame("b.png", EncodedImage(b"nothing"))
    refused = result(1, error=InvalidInputError("undecodable"))
    write(tmp_path / "out.mp4", FOLDER, (broken, refused), (FRAME, result(1)))
    assert len(read_video(tmp_path / "out.mp4")[0]) == 1
    with pytest.raises(InvalidInputError):
        write(tmp_path / "out", FOLDER, (broken, result(0)))


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.jsonl"])
def test_nothing_written_is_still_closed(tmp_path, name):
    write(tmp_path / name, VIDEO)


def test_json_lines():
    stream = io.StringIO()
    sink = JsonLinesSink(stream)
    sink.write(FRAME, FOUND)
    sink.write(FRAME, result(1, error=InvalidInputError("bad"), placement=None))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["detections"] == [
        {"category_id": 1, "category_name": "person", "score": 0.9, "box": [50, 50, 300, 200]}
    ]
    assert first["placement"] == "full"
    assert first["error"] is None
    assert first["dropped"] is False
    assert first["timing"]["backbone"]["execute_seconds"] == 0.02
    assert second["error"] == {"code": "INVALID_ARGUMENT", "message": "bad"}
    assert second["placement"] is None


@pytest.mark.parametrize(
    ("name", "info", "sentence"),
    [
        ("out.gif", VIDEO, "unknown kind of file"),
        ("out.png", VIDEO, "is one picture"),
        ("out.png", FOLDER, "is one picture"),
    ],
)
def test_a_file_that_does_not_suit_is_refused(tmp_path, name, info, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        open_sink(tmp_path / name, info)


@pytest.mark.parametrize("name", ["x/out.mp4", "x/out.jsonl", "x/pictures"])
def test_a_place_that_cannot_be_written_is_told(tmp_path, name):
    (tmp_path / "x").write_text("a file where a folder would have to be")
    with pytest.raises(UnavailableError, match="cannot be written"):
        open_sink(Path(tmp_path / name), VIDEO)
