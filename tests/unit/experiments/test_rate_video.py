import numpy as np
import pytest

from common.bundle import FixedInput
from common.domain.errors import InternalError
from experiments.rate_accuracy.grid import VideoSending
from experiments.rate_accuracy.measure import video_pictures
from experiments.rate_accuracy.video import VideoCodec, VideoQuality, decode, encode

CODECS = list(VideoCodec)


@pytest.fixture(scope="module")
def clip():
    """A square that moves over a ramp, 100 frames of 96 x 64."""
    ramp = np.tile(np.linspace(0, 200, 96), (64, 1))
    frames = []
    for number in range(100):
        picture = ramp.copy()
        picture[20:44, number % 70 : number % 70 + 24] = 255 - number
        frames.append(np.repeat(picture.astype(np.uint8)[:, :, None], 3, axis=2))
    return frames


def error(one, other):
    return np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(one, other, strict=True)])


@pytest.mark.parametrize("codec", CODECS)
def test_video_comes_back_frame_by_frame(clip, codec):
    packets = encode(clip, VideoQuality(codec, 20))
    assert len(packets) == len(clip)
    decoded = list(decode(packets, codec, (64, 96)))
    assert error(clip, decoded) < 3
    # In order: each frame is nearer to its own original than to the one before.
    assert error(clip[1:60], decoded[1:60]) < error(clip[:59], decoded[1:60])


@pytest.mark.parametrize("codec", CODECS)
def test_less_quality_takes_fewer_bytes(clip, codec):
    fine, coarse = (sum(map(len, encode(clip, VideoQuality(codec, crf)))) for crf in (18, 38))
    assert coarse < 0.6 * fine


@pytest.mark.parametrize("codec", CODECS)
def test_a_receiver_can_join_at_every_key_frame_and_only_there(clip, codec):
    """So packets hold the parameter sets: they count."""
    packets = encode(clip, VideoQuality(codec, 20))
    joined = list(decode(packets[48:], codec, (64, 96)))
    assert error(clip[48:], joined) < 3
    with pytest.raises(InternalError, match="became|cannot be decoded"):
        list(decode(packets[49:60], codec, (64, 96)))


@pytest.mark.parametrize("codec", CODECS)
def test_no_encoder_writes_its_own_name_into_the_stream(clip, codec):
    data = b"".join(encode(clip, VideoQuality(codec, 20)))
    assert b"x26" not in data


def test_odd_sizes_come_back_as_they_were(clip):
    odd = [frame[:63, :95] for frame in clip[:5]]
    quality = VideoQuality(VideoCodec.H264, 15)
    decoded = list(decode(encode(odd, quality), VideoCodec.H264, (63, 95)))
    assert {frame.shape for frame in decoded} == {(63, 95, 3)}
    assert error(odd, decoded) < 3


def test_pictures_of_a_video_know_their_bytes_and_their_scale(clip):
    quality = VideoQuality(VideoCodec.H264, 20)
    policy = FixedInput(height=32, width=48)
    pictures = list(video_pictures(clip[:10], VideoSending(quality, policy)))
    assert [(one.image.height, one.image.width) for one in pictures] == [(32, 48)] * 10
    assert {(one.scale_x, one.scale_y) for one in pictures} == {(2.0, 2.0)}
    assert pictures[0].link_bytes > pictures[1].link_bytes > 0
    whole = list(video_pictures(clip[:10], VideoSending(quality, None)))
    assert sum(one.link_bytes for one in whole) == sum(map(len, encode(clip[:10], quality)))
