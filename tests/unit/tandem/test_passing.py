"""Video that is passed through: the access units of files and cameras, and what becomes JPEG."""

import os
import threading
from contextlib import closing

import av
import numpy as np
import pytest

from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, RawImage
from common.domain.video import AccessUnit, VideoCodec
from common.vision.video.byte_stream import nal_units
from common.vision.video.parameters import B_FRAMES, RENEWED_BIT_BY_BIT
from tandem.pictures import decode_picture
from tandem.sources import VideoForm, open_source
from tests.network_cameras import rtsp_camera
from tests.unit.tandem.factories import pixels, write_camera_video, write_video

FILES = {
    "v.mp4": {},
    "v.mkv": {},
    "v.ts": {},
    "v.h264": {},
    "v.avi": {},
    "h265.mp4": {"codec": "libx265"},
    "h265.mkv": {"codec": "libx265"},
    "v.h265": {"codec": "libx265", "format": "hevc"},
}
SETS = {VideoCodec.H264: {7, 8}, VideoCodec.H265: {32, 33, 34}}


def kinds_of_sets(unit, codec):
    """Of an access unit: `nal_unit_type` of each of its parameter sets."""
    heads = [unit.data[start] for start, _ in nal_units(unit.data)]
    kinds = [head & 31 if codec is VideoCodec.H264 else head >> 1 for head in heads]
    return set(kinds) & SETS[codec]


def read(path, form=VideoForm.ACCESS_UNITS, **options):
    """Frames, and what was told."""
    told = []
    with closing(open_source(str(path), tell=told.append, **options)) as source:
        source.deliver(form)
        return list(source), told


def shown(frames):
    return [frame.pixels() for frame in frames]


@pytest.mark.parametrize(("name", "encoder"), FILES.items())
def test_a_files_access_units_come_as_they_are(tmp_path, name, encoder):
    path = write_camera_video(tmp_path / name, **encoder)
    frames, told = read(path)
    codec = VideoCodec.H265 if encoder else VideoCodec.H264
    assert {frame.video.codec for frame in frames} == {codec}
    assert [frame.content.key_frame for frame in frames] == [n % 5 == 0 for n in range(12)]
    for frame in frames:
        assert frame.content.data.startswith((b"\0\0\1", b"\0\0\0\1"))
        sets = kinds_of_sets(frame.content, codec)
        assert sets == (SETS[codec] if frame.content.key_frame else set())
    decoded, _ = read(path, VideoForm.PIXELS)
    assert [frame.seconds for frame in frames] == [frame.seconds for frame in decoded]
    assert [frame.name for frame in frames] == [frame.name for frame in decoded]
    np.testing.assert_array_equal(shown(frames), shown(decoded))
    assert all("sent as JPEG" not in each for each in told)


def test_a_file_is_read_whatever_its_first_frame_is(tmp_path):
    """As a recording that began in the midst of a group."""
    whole = write_camera_video(tmp_path / "v.h264")
    data = whole.read_bytes()
    with av.open(str(whole)) as container:
        sizes = [packet.size for packet in container.demux() if packet.size]
    (tmp_path / "cut.h264").write_bytes(data[sum(sizes[:2]) :])
    frames, _ = read(tmp_path / "cut.h264")
    assert [frame.content.key_frame for frame in frames] == [n % 5 == 0 for n in range(7)]


NOT_PASSED = {
    B_FRAMES: {"options": {"bf": "2"}},
    "the video has 12 bits a colour; served are 8 and 10": {
        "codec": "libx265",
        "pixel_format": "yuv420p12le",
    },
    "the video is interlaced": {"options": {"flags": "+ilme+ildct"}},
    "the video is turned when it is shown": {"rotation": 90},
}


@pytest.mark.parametrize(("why", "encoder"), NOT_PASSED.items())
def test_what_the_services_do_not_decode_is_sent_as_jpeg(tmp_path, why, encoder):
    path = write_camera_video(tmp_path / "v.mp4", **encoder)
    frames, told = read(path)
    (sentence,) = told
    assert sentence.startswith(f"v.mp4: its frames are sent as JPEG: {why}")
    assert frames == read(path, VideoForm.JPEG)[0]
    assert len(frames) == 12
    upright = (64, 48) if "rotation" in encoder else (48, 64)
    assert decode_picture(frames[0].image).shape[:2] == upright


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv444p", "yuv422p", "gray"])
def test_other_colours_are_passed_through(tmp_path, pixel_format):
    path = write_camera_video(tmp_path / "v.mp4", pixel_format=pixel_format)
    frames, told = read(path)
    assert ([type(frame.content) for frame in frames], told) == ([AccessUnit] * 12, [])
    np.testing.assert_array_equal(shown(frames), shown(read(path, VideoForm.PIXELS)[0]))


@pytest.mark.parametrize(("name", "codec"), [("v.webm", "libvpx"), ("v.avi", "mjpeg")])
def test_video_of_other_codecs_is_sent_as_jpeg_without_a_word(tmp_path, name, codec):
    more = {"pixel_format": "yuvj420p"} if codec == "mjpeg" else {}
    frames, told = read(write_video(tmp_path / name, codec=codec, **more))
    assert [type(frame.content) for frame in frames] == [EncodedImage] * 5
    assert told == []


def test_frames_after_which_b_frames_begin_are_passed_and_the_others_are_jpeg(tmp_path):
    path = tmp_path / "v.ts"
    path.write_bytes(late_b_frames(tmp_path))
    frames, told = read(path)
    kinds = [type(frame.content) for frame in frames]
    assert kinds == [AccessUnit] * 79 + [EncodedImage] * 13
    assert told == [f"v.ts: its frames are sent as JPEG: from frame 79 on, {B_FRAMES}"]
    decoded, _ = read(path, VideoForm.PIXELS)
    for one, other in zip(shown(frames), shown(decoded), strict=True):
        assert np.abs(one.astype(int) - other).mean() < 12
    assert [frame.seconds for frame in frames] == [frame.seconds for frame in decoded]


@pytest.mark.parametrize("damaged", [[42], [41, 42, 43], [78]])
def test_damage_in_what_was_passed_costs_no_frame_where_b_frames_begin(tmp_path, damaged):
    (tmp_path / "whole.ts").write_bytes(late_b_frames(tmp_path))

    def change(index, packet):
        return bytes(packet)[: 40 if index in damaged else None]

    first = changed_copy(tmp_path / "first.ts", tmp_path / "v.ts", change).read_bytes()
    (tmp_path / "v.ts").write_bytes(first + (tmp_path / "second.ts").read_bytes())
    frames, told = read(tmp_path / "v.ts")
    kinds = [type(frame.content) for frame in frames]
    assert kinds == [AccessUnit] * 79 + [EncodedImage] * 13
    whole, _ = read(tmp_path / "whole.ts")
    assert [frame.seconds for frame in frames] == [frame.seconds for frame in whole]
    # Frame 79 is the last that may refer to a damaged one.
    assert [each.content for each in frames[80:]] == [each.content for each in whole[80:]]
    assert told == [f"v.ts: its frames are sent as JPEG: from frame 79 on, {B_FRAMES}"]


def test_the_order_of_display_shows_b_frames_that_the_parameter_sets_do_not(tmp_path):
    write_camera_video(tmp_path / "v.mkv")
    with av.open(str(tmp_path / "v.mkv")) as read_from:
        stream = read_from.streams.video[0]
        packets = [packet for packet in read_from.demux(stream) if packet.size]
        packets[3].pts, packets[4].pts = packets[4].pts, packets[3].pts
        with av.open(str(tmp_path / "other.mkv"), "w") as written:
            copied = written.add_stream_from_template(stream)
            for packet in packets:
                packet.stream, packet.dts = copied, packet.dts - 100
                written.mux(packet)
    frames, told = read(tmp_path / "other.mkv")
    kinds = [type(frame.content) for frame in frames]
    assert kinds == [AccessUnit] * 3 + [EncodedImage] * 9
    assert told == [f"other.mkv: its frames are sent as JPEG: from frame 3 on, {B_FRAMES}"]


def test_a_video_whose_beginning_is_cut_by_an_edit_list_is_sent_as_jpeg(tmp_path):
    write_camera_video(tmp_path / "whole.mp4")
    with av.open(str(tmp_path / "whole.mp4")) as read_from:
        stream = read_from.streams.video[0]
        with av.open(str(tmp_path / "cut.mp4"), "w") as written:
            copied = written.add_stream_from_template(stream)
            for packet in read_from.demux(stream):
                if packet.size:
                    earlier = 3 * packet.duration
                    packet.pts, packet.dts = packet.pts - earlier, packet.dts - earlier
                    packet.stream = copied
                    written.mux(packet)
    frames, told = read(tmp_path / "cut.mp4")
    assert [type(frame.content) for frame in frames] == [EncodedImage] * 9
    assert told == [
        "cut.mp4: its frames are sent as JPEG: an edit list leaves out parts of the video"
    ]


def late_b_frames(folder):
    """Two recordings in one, of which the second has B frames."""
    first = write_camera_video(folder / "first.ts", frames=80).read_bytes()
    with av.open(str(folder / "second.ts"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "2"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(pixels(48, 64, seed=100 + number), format="bgr24")
            frame.pts = 80 + number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return first + (folder / "second.ts").read_bytes()


def test_a_pipe_in_which_b_frames_begin_says_what_to_do(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = late_b_frames(tmp_path)
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data))
    writer.start()
    with pytest.raises(InvalidInputError, match=r"from frame \d+ on, the video has B"):
        read(tmp_path / "pipe")
    writer.join()


def test_a_cameras_access_units_come_from_a_key_frame_on_after_each_connection():
    with rtsp_camera(14, group=5, starts=(3, 1)) as camera:
        told = []
        with closing(open_source(camera.url, tell=told.append, reconnect_seconds=5.0)) as source:
            source.deliver(VideoForm.ACCESS_UNITS)
            frames = [next(iterator) for iterator in [iter(source)] for _ in range(12)]
    keys = [n for n, frame in enumerate(frames) if frame.content.key_frame]
    # Frames 5 to 13 of the first connection, then 5 and so on of the second.
    assert keys == [0, 5, 9]
    assert any("back after" in each for each in told)
    assert all(frame.pixels().shape == (48, 64, 3) for frame in frames)


def test_parameter_sets_of_a_cameras_description_come_with_each_key_frame():
    with (
        rtsp_camera(11, group=5, sets_in_sdp=True) as camera,
        closing(open_source(camera.url, reconnect_seconds=0.0)) as source,
    ):
        source.deliver(VideoForm.ACCESS_UNITS)
        frames = [next(iterator) for iterator in [iter(source)] for _ in range(11)]
    for number, frame in enumerate(frames):
        sets = kinds_of_sets(frame.content, VideoCodec.H264)
        assert sets == ({7, 8} if number % 5 == 0 else set())
        assert frame.pixels() is not None


def test_a_damaged_access_unit_goes_as_it_is_and_has_no_picture(tmp_path):
    path = write_camera_video(tmp_path / "v.mp4")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        position, size = packets[5].pos, packets[5].size
    data = bytearray(path.read_bytes())
    data[position + size // 2 : position + size] = bytes(size - size // 2)
    path.write_bytes(data)
    frames, told = read(path)
    assert (len(frames), told) == (12, [])
    assert [type(frame.content) for frame in frames] == [AccessUnit] * 12


def changed_copy(path, copy, change):
    """A file of the same packets; `change` gets each, and its number, and returns its data."""
    with av.open(str(path)) as read_from, av.open(str(copy), "w") as written:
        stream = read_from.streams.video[0]
        copied = written.add_stream_from_template(stream)
        packets = (packet for packet in read_from.demux(stream) if packet.size)
        for number, packet in enumerate(packets):
            other = av.Packet(change(number, packet))
            other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
            other.stream, other.is_keyframe = copied, packet.is_keyframe
            written.mux(other)
    return copy


@pytest.mark.parametrize("number", [5, 7], ids=["key frame", "other"])
@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"\xff" * 200])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_is_no_access_unit_any_more_is_left_out_and_the_others_pass(
    tmp_path, suffix, codec, damage, number
):
    path = write_camera_video(tmp_path / f"v{suffix}", codec=codec)

    def change(index, packet):
        return damage(bytes(packet)) if index == number else bytes(packet)

    frames, told = read(changed_copy(path, tmp_path / f"damaged{suffix}", change))
    whole = [frame.content for frame in read(path)[0]]
    assert [frame.content for frame in frames] == whole[:number] + whole[number + 1 :]
    assert told == [f"damaged{suffix}: 1 damaged frame left out so far"]


def test_a_video_that_renews_its_picture_bit_by_bit_is_sent_as_jpeg(tmp_path):
    options = {"x264-params": "intra-refresh=1:keyint=5:bframes=0:scenecut=0"}
    path = write_camera_video(tmp_path / "v.mp4", options=options)
    frames, told = read(path)
    kinds = [type(frame.content) for frame in frames]
    first = kinds.index(EncodedImage)
    assert kinds == [AccessUnit] * first + [EncodedImage] * (12 - first)
    why = f"from frame {first} on, {RENEWED_BIT_BY_BIT}"
    assert told == [f"v.mp4: its frames are sent as JPEG: {why}"]
    assert first < 6


def test_a_frame_of_h265_is_a_key_frame_where_it_says_so_itself(tmp_path):
    """MP4's list of key frames may be missing, and each frame is called one then."""
    path = write_camera_video(tmp_path / "v.mp4", codec="libx265")

    def change(_index, packet):
        packet.is_keyframe = True
        return bytes(packet)

    frames, told = read(changed_copy(path, tmp_path / "all.mp4", change))
    assert ([frame.content for frame in frames], told) == (
        [frame.content for frame in read(path)[0]],
        [],
    )


@pytest.mark.parametrize("form", VideoForm)
@pytest.mark.parametrize("begins_at", [0.0, 18_000.0])
def test_recordings_that_were_joined_follow_each_other(tmp_path, form, begins_at):
    data = write_camera_video(tmp_path / "v.ts").read_bytes()
    with (
        av.open(str(tmp_path / "v.ts")) as read_from,
        av.open(str(tmp_path / "later.ts"), "w") as written,
    ):
        copied = written.add_stream_from_template(read_from.streams.video[0])
        for packet in (packet for packet in read_from.demux(video=0) if packet.size):
            later = round(begins_at / packet.time_base)
            packet.pts, packet.dts = packet.pts + later, packet.dts + later
            packet.stream = copied
            written.mux(packet)
    (tmp_path / "joined.ts").write_bytes(data + (tmp_path / "later.ts").read_bytes())
    frames, told = read(tmp_path / "joined.ts", form)
    assert (len(frames), told) == (24, [])
    steps = np.diff([frame.seconds for frame in frames])
    np.testing.assert_allclose(steps, 0.1, atol=1e-3)
    kind = {VideoForm.ACCESS_UNITS: AccessUnit, VideoForm.JPEG: EncodedImage}.get(form, RawImage)
    assert {type(frame.content) for frame in frames} == {kind}
