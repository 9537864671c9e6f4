import os
import subprocess
import sys
from contextlib import closing, contextmanager
from fractions import Fraction

import av
import pytest
from PIL import Image

from common.domain.errors import InvalidInputError, TandemError
from tandem.pictures import decode_picture
from tandem.sources import SourceKind, open_source
from tests.network_cameras import jpeg
from tests.unit.tandem.factories import pixels, write_video


def read(path, told=None):
    tell = told.append if told is not None else lambda _: None
    with closing(open_source(str(path), tell=tell)) as source:
        return list(source), source


def write_variable(path, codec, times):
    """A video whose frames are shown at these times (seconds), in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index, seconds in enumerate(times):
            picture = av.VideoFrame.from_ndarray(pixels(48, 64, seed=index), format="bgr24")
            picture.pts, picture.time_base = round(1000 * seconds), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("v.webm", "libvpx"), ("v.mkv", "mjpeg"), ("v.mp4", "libx264")]
)
def test_every_frame_comes_with_its_time(tmp_path, name, codec):
    times = [index / 15 + (0.02 if index % 3 else 0.0) for index in range(20)]
    frames, source = read(write_variable(tmp_path / name, codec, times))
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=0.001)
    assert source.info.kind is SourceKind.VIDEO


def test_a_video_that_starts_late_starts_at_zero(tmp_path):
    frames, _ = read(write_variable(tmp_path / "v.mkv", "mjpeg", [5.0, 5.5, 6.5]))
    assert [frame.seconds for frame in frames] == [0.0, 0.5, 1.5]


def test_what_has_no_times_says_so(tmp_path):
    (tmp_path / "v.mjpeg").write_bytes(b"".join(jpeg(seed) for seed in range(5)))
    told = []
    frames, _ = read(tmp_path / "v.mjpeg", told)
    assert len(frames) == 5
    assert told == ["v.mjpeg does not say when its frames are shown: 25 a second are assumed"]


def positions(path):
    with av.open(str(path)) as container:
        return [(each.pos, each.size) for each in container.demux(video=0) if each.size]


@pytest.mark.parametrize("damage", ["garbage", "cut"])
@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.avi", "mjpeg")])
def test_a_damaged_frame_is_left_out_counted_and_told(tmp_path, name, codec, damage):
    path = write_variable(tmp_path / name, codec, [index / 10 for index in range(20)])
    whole, _ = read(path)
    position, size = positions(path)[9]
    data = bytearray(path.read_bytes())
    start = position if damage == "garbage" else position + size // 2
    data[start : position + size] = bytes(position + size - start)
    path.write_bytes(data)
    told = []
    frames, source = read(path, told)
    # Where frames build on one another, those behind the damage may be lost with it.
    assert len(frames) == len(whole) - source.damaged_frames
    assert source.damaged_frames >= 1
    assert told[0] == f"{name}: 1 damaged frame left out so far"
    assert frames[-1].seconds == whole[-1].seconds


def test_a_video_without_one_whole_frame_is_refused(tmp_path):
    path = write_variable(tmp_path / "v.avi", "mjpeg", [0.0, 0.1])
    data = bytearray(path.read_bytes())
    for position, size in positions(path):
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match="v.avi"):
        read(path)


def test_a_colon_in_a_name_makes_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "v.mp4").rename("12:30.mp4")
    assert len(read("12:30.mp4")[0]) == 5


def test_a_name_that_is_no_text(tmp_path):
    write_video(tmp_path / "v.mp4")
    path = os.fsencode(tmp_path) + b"/\xff.mp4"
    os.rename(tmp_path / "v.mp4", path)
    assert len(read(os.fsdecode(path))[0]) == 5


@pytest.mark.parametrize("name", ["v.mkv", "v.webm"])
def test_a_pipe_is_read_to_its_end(tmp_path, name):
    video = tmp_path / name
    if name == "v.webm":
        write_variable(video, "libvpx", [index / 10 for index in range(7)])
    else:
        write_video(video, frames=7)
    os.mkfifo(tmp_path / "pipe")
    with written(video, tmp_path / "pipe"):
        frames, source = read(tmp_path / "pipe")
    assert len(frames) == 7
    assert source.info.kind is SourceKind.VIDEO


@contextmanager
def written(path, pipe):
    with subprocess.Popen(["sh", "-c", f"cat {path} > {pipe}"]) as writer:
        yield
        writer.wait()


def test_a_pipe_of_a_shell(tmp_path):
    video = write_video(tmp_path / "v.mkv", frames=3)
    program = (
        "from tandem.sources import open_source; "
        "print(len(list(open_source('/dev/stdin'))), end='')"
    )
    finished = subprocess.run(
        f'cat {video} | {sys.executable} -c "{program}"',
        shell=True,
        capture_output=True,
        text=True,
    )
    assert (finished.stdout, finished.returncode) == ("3", 0), finished.stderr


def test_a_pipe_that_nobody_writes_into_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("tandem.sources.readers.SILENCE_SECONDS", 0.2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TandemError, match="nothing came out of .*pipe for"):
        read(tmp_path / "pipe")


def test_a_picture_in_a_pipe_is_not_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(64, 96)).save(tmp_path / "a.jpg", exif=exif)
    os.mkfifo(tmp_path / "pipe")
    with written(tmp_path / "a.jpg", tmp_path / "pipe"):
        (frame,), _ = read(tmp_path / "pipe")
    assert decode_picture(frame.image).shape == (64, 96, 3)
