import contextlib
import json
import resource
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.frames import EncodedImage
from tandem.pictures import decode_picture, encode_png
from tandem.sinks import FolderSink, open_sink
from tandem.sources import SourceFrame, SourceInfo, SourceKind
from tests.unit.tandem.factories import detection, encoded, read_video, result

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


def test_no_picture_of_a_folder_takes_the_place_of_another(tmp_path):
    names = ["a.avif", "a.avif.jpg", "b.webp", "b.bmp"]
    paths = tuple(tmp_path / name for name in names)
    info = SourceInfo("pictures", SourceKind.FOLDER, 4, None, paths)
    frames = [SourceFrame(name, FRAME.image) for name in names]
    write(tmp_path / "out", info, *((frame, result(at)) for at, frame in enumerate(frames)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.avif.boxes.jpg",
        "a.avif.jpg",
        "b.bmp.jpg",
        "b.webp.jpg",
    ]


@pytest.mark.parametrize("url", ["rtsp://user:secret@host/x.mp4", "file:///tmp/x.mp4"])
def test_a_url_is_not_written(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match="is a URL") as caught:
        open_sink(Path(url), VIDEO)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


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
def test_without_a_frame_there_is_no_file_and_an_old_one_stays(tmp_path, name):
    write(tmp_path / name, VIDEO)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).write_text("of yesterday")
    write(tmp_path / name, VIDEO)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of yesterday"]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.jsonl", "out.png"])
def test_the_wanted_name_is_given_at_the_end(tmp_path, name):
    wanted = tmp_path / name
    wanted.write_text("of yesterday")
    sink = open_sink(wanted, PICTURE)
    assert wanted.read_text() == "of yesterday"
    sink.write(FRAME, FOUND)
    if name != "out.png":
        assert wanted.read_text() == "of yesterday"
    sink.close()
    assert wanted.read_bytes() != b"of yesterday"
    assert list(tmp_path.iterdir()) == [wanted]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov"])
@pytest.mark.parametrize(
    ("times", "duration", "length"),
    [
        ([index / 15 for index in range(30)], None, 2.0),
        ([0.0, 0.1, 0.25, 1.0, 3.0], 0.5, 3.5),
        ([0.0, 2.0], None, 4.0),
        ([0.0], 1.5, 1.5),
    ],
)
def test_a_video_keeps_the_times_of_its_source(tmp_path, name, times, duration, length):
    shown = [SourceFrame("x", FRAME.image, seconds, duration) for seconds in times]
    write(tmp_path / name, VIDEO, *((frame, result(i)) for i, frame in enumerate(shown)))
    with av.open(str(tmp_path / name)) as container:
        written = [frame.time for frame in container.decode(video=0)]
        assert container.duration / av.time_base == pytest.approx(length, abs=0.002)
    assert written == pytest.approx(times, abs=0.001)


def test_times_that_stand_still_or_run_back_do_no_harm(tmp_path):
    shown = [SourceFrame("x", FRAME.image, seconds) for seconds in (1.0, 1.0, 0.5, 2.0)]
    write(tmp_path / "out.mp4", VIDEO, *((frame, result(i)) for i, frame in enumerate(shown)))
    assert len(read_video(tmp_path / "out.mp4")[0]) == 4


@pytest.mark.parametrize("how", ["same name", "symbolic link", "hard link", "relative"])
@pytest.mark.parametrize("name", ["v.mp4", "v.json"])
def test_the_source_itself_is_not_written(tmp_path, monkeypatch, how, name):
    source, output = tmp_path / name, tmp_path / f"other{Path(name).suffix}"
    source.write_text("precious")
    if how == "symbolic link":
        output.symlink_to(source)
    elif how == "hard link":
        output.hardlink_to(source)
    else:
        output = source
    if how == "relative":
        monkeypatch.chdir(tmp_path)
        output = Path("../" + tmp_path.name) / name
    with pytest.raises(InvalidInputError, match="would be lost"):
        open_sink(output, SourceInfo(name, SourceKind.VIDEO, 1, None, (source,)))
    assert source.read_text() == "precious"


@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_does_not_write_into_itself(tmp_path, linked):
    folder, output = tmp_path / "in", tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(FRAME.image.data)
    if linked:
        output = tmp_path / "out"
        output.symlink_to(folder)
    paths = (folder / "a.png",)
    for info in (
        SourceInfo("in", SourceKind.FOLDER, 1, None, paths),
        SourceInfo("a.png", SourceKind.PICTURE, 1, None, paths),
    ):
        with pytest.raises(InvalidInputError, match="would be lost"):
            open_sink(output, info)
    assert isinstance(open_sink(tmp_path / "elsewhere", info), FolderSink)


@pytest.mark.parametrize("name", ["out.jsonl", "out.mp4", "out.mkv"])
def test_on_a_full_disk_nothing_broken_gets_the_name(tmp_path, name):
    """The disk's end is a limit on the size of this process's files."""
    (tmp_path / name).write_text("of yesterday")
    sink = open_sink(tmp_path / name, VIDEO)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(UnavailableError, match=f"{name} cannot be written"):
            for index in range(1000):
                noise = np.random.default_rng(index).integers(0, 255, (320, 320, 3), np.uint8)
                sink.write(SourceFrame("x", encode_png(noise)), FOUND)
        with contextlib.suppress(UnavailableError):
            sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (left,) = tmp_path.iterdir()
    if name == "out.jsonl":
        assert len([json.loads(line) for line in left.read_text().splitlines()]) > 1
    else:
        assert left.read_text() == "of yesterday"


def test_json_lines(tmp_path):
    later = SourceFrame("b.png", FRAME.image, seconds=0.25)
    refused = result(1, error=InvalidInputError("bad"), placement=None)
    write(tmp_path / "out.jsonl", PICTURE, (FRAME, FOUND), (later, refused))
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert [(one["name"], one["time_seconds"]) for one in (first, second)] == [
        ("a.png", None),
        ("b.png", 0.25),
    ]
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
