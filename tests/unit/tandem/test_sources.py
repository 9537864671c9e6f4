import time
from contextlib import closing

import cv2
import numpy as np
import pytest

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.frames import EncodedImage
from tandem.pictures import decode_picture, encode_jpeg
from tandem.sources import SourceFrame, SourceKind, open_source, played
from tests.unit.tandem.factories import encoded, pixels, write_video


def read(text):
    with closing(open_source(str(text))) as source:
        return source.info, list(source)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_is_sent_as_it_is(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix))
    info, frames = read(path)
    assert (info.kind, info.frame_count, info.frames_per_second) == (SourceKind.PICTURE, 1, None)
    assert frames == [SourceFrame(path.name, EncodedImage(path.read_bytes()))]


def test_what_a_picture_is_is_seen_from_its_content(tmp_path):
    path = tmp_path / "without-suffix"
    path.write_bytes(encoded(".jpg"))
    assert read(path)[0].kind is SourceKind.PICTURE


def test_other_pictures_are_sent_as_png_without_loss(tmp_path):
    path = tmp_path / "a.bmp"
    cv2.imwrite(str(path), pixels())
    _, (frame,) = read(path)
    assert frame.image.data.startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_picture(frame.image), pixels())


def test_a_folder_gives_its_pictures_by_name(tmp_path):
    for name in ("b.png", "a.PNG", "c.jpeg"):
        (tmp_path / name).write_bytes(encoded(".png"))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "inner").mkdir()
    info, frames = read(tmp_path)
    assert (info.kind, info.frame_count) == (SourceKind.FOLDER, 3)
    assert [frame.name for frame in frames] == ["a.PNG", "b.png", "c.jpeg"]


def test_a_damaged_picture_is_left_to_the_server(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff and no more")
    _, (frame,) = read(tmp_path)
    with pytest.raises(InvalidInputError, match="undecodable"):
        decode_picture(frame.image)


def test_a_video_becomes_jpeg_frames(tmp_path):
    info, frames = read(write_video(tmp_path / "v.mp4", frames=5, rate=10))
    assert (info.kind, info.frame_count, info.frames_per_second) == (SourceKind.VIDEO, 5, 10.0)
    assert [frame.name for frame in frames] == [f"v.mp4 frame {index}" for index in range(5)]
    for index, frame in enumerate(frames):
        assert frame.image.data.startswith(b"\xff\xd8\xff")
        difference = cv2.absdiff(decode_picture(frame.image), pixels(48, 64, seed=index))
        assert difference.mean() < 12


def test_quality_is_the_size(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=1)
    sizes = []
    for quality in (10, 95):
        with closing(open_source(str(path), quality)) as source:
            sizes.append(len(next(iter(source)).image.data))
    assert sizes[0] < sizes[1]


def test_exif_orientation_is_not_applied():
    # APP1 with an Exif block that says: turn by a quarter (orientation 6).
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    plain = encode_jpeg(pixels(40, 60)).data
    turned = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (60, 40, 3)
    assert decode_picture(EncodedImage(turned)).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (None, None, "there is no file, folder or camera named"),
        ("empty.jpg", b"", "is empty"),
        ("text.mp4", b"this is no video, however long it goes on" * 99, "neither a picture nor"),
        ("broken.bmp", b"BM nothing", "is not a picture that OpenCV can read"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, name, content, sentence):
    path = tmp_path / (name or "missing")
    if name:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=sentence):
        read(path)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="holds no pictures"):
        open_source(str(tmp_path))


def test_an_empty_name_is_not_the_folder_that_one_is_in(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match="no source is named"):
        open_source("")


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_hosts_name_that_is_not_found_is_told_as_that(scheme):
    with pytest.raises(UnavailableError, match=r"the name nobody\.invalid is not found") as caught:
        open_source(f"{scheme}://user:secret@nobody.invalid:1/live")
    assert "secret" not in str(caught.value)


def test_a_truncated_video_gives_its_frames_then_the_reason(tmp_path):
    path = tmp_path / "v.mkv"
    write_video(path, frames=60)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 4])
    with closing(open_source(str(path))) as source:
        assert len(list(source)) < 60


@pytest.mark.parametrize(
    "url", ["rtsp://user:secret@127.0.0.1:1/live", "http://user:secret@127.0.0.1:1/live"]
)
def test_a_stream_that_does_not_answer_is_told_without_its_password(url):
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1/live does not answer") as caught:
        open_source(url)
    assert "secret" not in str(caught.value)


def test_a_camera_that_is_not_there_is_told():
    with pytest.raises(UnavailableError, match="there is no camera 99 here"):
        open_source("99")


def test_played_frames_keep_their_time():
    frames = [SourceFrame(str(index), EncodedImage(b""), index / 20) for index in range(3)]
    started = time.monotonic()
    for index, frame in enumerate(played(frames)):
        assert frame is frames[index]
        assert time.monotonic() - started >= index * 0.05
    assert index == 2
