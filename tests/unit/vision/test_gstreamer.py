"""The decoder behind GStreamer, with FFmpeg's elements in the place of a Jetson's."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from common.domain.video import VideoCodec
from common.vision.limits import ImageSize
from common.vision.video.decoders import DamagedError, NoDecoderError, NoPictureError
from common.vision.video.gstreamer import JETSON, Elements, GStreamerDecoder, pipeline
from tests.videos import decoded, encoded, moving_pictures

H264, H265 = VideoCodec
ELEMENTS = {
    H264: Elements("avdec_h264 max-threads=1", "videoconvert"),
    H265: Elements("avdec_h265 max-threads=1", "videoconvert"),
}


def has(*elements: str) -> bool:
    inspector = shutil.which("gst-inspect-1.0")
    return inspector is not None and all(
        subprocess.run([inspector, "--exists", each], check=False).returncode == 0
        for each in elements
    )


def test_the_pipeline_of_a_jetson_is_as_its_elements_are_called():
    text = " ".join(pipeline(H265, JETSON))
    assert "h265parse ! nvv4l2decoder disable-dpb=true" in text
    assert text.endswith("nvvidconv ! video/x-raw,format=I420 ! fdsink fd=1 sync=false")


needs_gstreamer = pytest.mark.skipif(
    not has("h264parse", "h265parse", "avdec_h264", "avdec_h265"),
    reason="needs GStreamer with gstreamer1.0-libav and gstreamer1.0-plugins-bad",
)


@needs_gstreamer
@pytest.mark.parametrize("codec", VideoCodec)
@pytest.mark.parametrize(("size", "pixels"), [((160, 120), "yuvj420p"), ((322, 246), "yuv420p")])
def test_pictures_come_at_once_and_are_those_of_ffmpeg(codec, size, pixels):
    width, height = size
    units = encoded(moving_pictures(4, height, width), codec, pixels, colormatrix="bt709")
    decoder = GStreamerDecoder(codec, ELEMENTS[codec])
    for index, (unit, expected) in enumerate(zip(units, decoded(units, codec))):
        shown = decoder.decode(unit.data, ImageSize(width, height), is_wanted=index != 1)
        if shown is not None:
            np.testing.assert_array_equal(shown, expected)
    decoder.close()


@needs_gstreamer
def test_what_gives_no_picture_is_given_up():
    decoder = GStreamerDecoder(H264, ELEMENTS[H264])
    unit = encoded(moving_pictures(1))[0]
    decoder.decode(unit.data, ImageSize(160, 120), is_wanted=True)
    with pytest.raises((DamagedError, NoPictureError)):
        decoder.decode(b"\0\0\0\1\x41 nonsense", ImageSize(160, 120), is_wanted=True)
    decoder.close()


def test_a_pipeline_that_does_not_work_is_no_damage():
    decoder = None
    with pytest.raises(NoDecoderError):
        decoder = GStreamerDecoder(H264, Elements("no-such-element", "videoconvert"))
        unit = encoded(moving_pictures(1))[0]
        decoder.decode(unit.data, ImageSize(160, 120), is_wanted=True)
    if decoder is not None:
        decoder.close()


def test_what_ffmpeg_cannot_decode_either_is_damaged():
    decoder = GStreamerDecoder(H264, ELEMENTS[H264]) if has("avdec_h264") else None
    if decoder is not None:
        with pytest.raises((DamagedError, NoPictureError)):
            decoder.decode(b"\0\0\0\1\x65", ImageSize(16, 16), is_wanted=True)
        decoder.close()
