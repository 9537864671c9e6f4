"""Video on the wire, there and back; and what no stream of video may hold."""

import pytest

from common.domain.detections import StreamOptions
from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, PixelFormat, RawImage
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from common.wire.frames import content_bytes, content_from_wire, frame_to_wire
from common.wire.placements import stream_options_from_wire, stream_options_to_wire
from common.wire.video import MAX_PARAMETER_SETS_BYTES, optional_video_from_wire, video_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2

H264 = VideoFormat(VideoCodec.H264)
UNIT = AccessUnit(b"\0\0\1\x65 a picture", key_frame=True)
RAW = RawImage(2, 1, PixelFormat.GRAY8, b"ab")


@pytest.mark.parametrize("codec", VideoCodec)
@pytest.mark.parametrize("parameter_sets", [b"", b"\0\0\1\x67", bytes(MAX_PARAMETER_SETS_BYTES)])
def test_a_format_survives_the_wire(codec, parameter_sets):
    video = VideoFormat(codec, parameter_sets)
    options = StreamOptions(0.5, video=video)
    assert stream_options_from_wire(stream_options_to_wire(options)) == options
    opening = stage_pb2.BackboneOpen(video=video_to_wire(video))
    assert optional_video_from_wire(opening) == video


def test_streams_are_of_pictures_unless_they_say_otherwise():
    assert stream_options_from_wire(detector_pb2.StreamOptions()).video is None
    assert optional_video_from_wire(stage_pb2.BackboneOpen()) is None


@pytest.mark.parametrize(
    ("video", "words"),
    [
        (detector_pb2.VideoFormat(), "names no codec"),
        (detector_pb2.VideoFormat(codec=9), "unknown video codec 9"),
        (
            detector_pb2.VideoFormat(codec=1, parameter_sets=bytes(MAX_PARAMETER_SETS_BYTES + 1)),
            f"have {MAX_PARAMETER_SETS_BYTES + 1} bytes; the limit is {MAX_PARAMETER_SETS_BYTES}",
        ),
    ],
)
def test_a_format_that_cannot_be_is_refused(video, words):
    with pytest.raises(InvalidInputError, match=words):
        stream_options_from_wire(detector_pb2.StreamOptions(video=video))


@pytest.mark.parametrize(
    ("content", "video", "size"),
    [(UNIT, H264, len(UNIT.data)), (EncodedImage(b"JPEG"), None, 4), (RAW, None, 2)],
)
def test_contents_survive_the_wire(content, video, size):
    frame = frame_to_wire(7, content)
    assert frame.frame_id == 7
    assert content_from_wire(frame, video) == content
    assert content_bytes(frame) == size


@pytest.mark.parametrize(
    ("frame", "video", "words"),
    [
        (detector_pb2.Frame(), None, "holds no image"),
        (detector_pb2.Frame(), H264, "holds no image"),
        (frame_to_wire(1, UNIT), None, "have no `video`"),
        (frame_to_wire(1, EncodedImage(b"JPEG")), H264, "is a picture.*that it is h264 video"),
        (frame_to_wire(1, RAW), H264, "is a picture.*that it is h264 video"),
        (frame_to_wire(1, AccessUnit(b"", key_frame=False)), H264, "is empty"),
    ],
)
def test_a_frame_is_what_its_stream_is_of(frame, video, words):
    with pytest.raises(InvalidInputError, match=words):
        content_from_wire(frame, video)
