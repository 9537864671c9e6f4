"""Pictures that are encoded anew, and decoded as a backbone does."""

from contextlib import closing

import cv2
import numpy as np
import pytest

from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, PixelFormat, RawImage
from common.domain.video import AccessUnit, FrameCodec, VideoFormat
from common.vision.confined_process import start_server
from common.vision.decode import decode_image
from common.vision.limits import DEFAULT_LIMITS, ImageSize
from common.vision.video.decoder_process import VideoDecoder
from common.vision.video.encoder_process import PictureEncoder
from common.vision.video.limits import VideoLimits
from tests.videos import moving_pictures

VIDEO = [FrameCodec.H264, FrameCodec.H265]
LIMITS = VideoLimits(1_000_000, DEFAULT_LIMITS)
QUALITIES = {FrameCodec.JPEG: 80, FrameCodec.H264: 18, FrameCodec.H265: 18}


@pytest.fixture(params=FrameCodec, ids=lambda each: each.value)
def codec(request):
    return request.param


def jpeg(rgb, colours=cv2.COLOR_RGB2BGR):
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, colours), [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert done
    return EncodedImage(data.tobytes())


def encoder_of(codec):
    start_server()
    return PictureEncoder(codec, QUALITIES[codec])


class Receiver:
    """Decodes what came of the pictures, as a backbone does."""

    def __init__(self, codec):
        self._decoder = codec.video and VideoDecoder(VideoFormat(codec.video), LIMITS)

    def decode(self, encoded):
        if self._decoder is None:
            return decode_image(EncodedImage(encoded.data), 1 << 20)
        checked = self._decoder.read(AccessUnit(encoded.data, encoded.key_frame))
        return self._decoder.decode(checked, ImageSize(*checked.size)).rgb.copy()

    def close(self):
        if self._decoder is not None:
            self._decoder.close()


def decoded(codec, images):
    """The pictures that arrive, and which of them were key frames."""
    with closing(Receiver(codec)) as receiver, closing(encoder_of(codec)) as encoder:
        units = [encoder.encode(image, begins=False) for image in images]
        return [receiver.decode(unit) for unit in units], [unit.key_frame for unit in units]


def assert_near(arrived, sent):
    assert arrived.shape == sent.shape
    assert np.abs(arrived.astype(int) - sent).mean() < 6


def test_each_picture_arrives_and_only_the_first_is_a_key_frame(codec):
    pictures = moving_pictures(5)
    arrived, keys = decoded(codec, [jpeg(each) for each in pictures])
    for one, sent in zip(arrived, pictures):
        assert_near(one, sent)
    assert keys == [True] + [codec is FrameCodec.JPEG] * 4


def test_raw_and_grey_pictures_arrive_as_the_backbone_would_have_decoded_them(codec):
    picture = moving_pictures(1)[0]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    images = [
        RawImage(160, 120, PixelFormat.BGR8, picture[..., ::-1].tobytes()),
        RawImage(160, 120, PixelFormat.GRAY8, grey.tobytes()),
        jpeg(picture, cv2.COLOR_RGB2GRAY),
    ]
    arrived, _ = decoded(codec, images)
    for one, image in zip(arrived, images):
        assert_near(one, decode_image(image, 1 << 20))


@pytest.mark.parametrize("codec", VIDEO, ids=lambda each: each.value)
def test_a_picture_of_another_size_begins_a_new_video(codec):
    small, large = moving_pictures(2), moving_pictures(2, 240, 320)
    arrived, keys = decoded(codec, [jpeg(each) for each in (*small, *large)])
    assert keys == [True, False, True, False]
    for one, sent in zip(arrived, (*small, *large)):
        assert_near(one, sent)


@pytest.mark.parametrize("codec", VIDEO, ids=lambda each: each.value)
def test_an_odd_side_loses_its_last_pixels_and_all_others_stay_where_they_are(codec):
    picture = moving_pictures(1, 121, 161)[0]
    arrived, _ = decoded(codec, [jpeg(picture)])
    assert_near(arrived[0], picture[:120, :160])


@pytest.mark.parametrize(
    "image",
    [
        EncodedImage(b"no picture"),
        EncodedImage(jpeg(moving_pictures(1)[0]).data[:-200]),
        RawImage(160, 120, PixelFormat.RGB8, b"short"),
        RawImage(20000, 20000, PixelFormat.RGB8, b""),
    ],
    ids=["no picture", "cut off", "short", "too large"],
)
def test_a_picture_that_cannot_be_decoded_is_refused_and_the_next_one_is_encoded(codec, image):
    picture = moving_pictures(1)[0]
    with closing(Receiver(codec)) as receiver, closing(encoder_of(codec)) as encoder:
        receiver.decode(encoder.encode(jpeg(picture), begins=True))
        with pytest.raises(InvalidInputError):
            encoder.encode(image, begins=False)
        unit = encoder.encode(jpeg(picture), begins=True)
        assert unit.key_frame
        assert_near(receiver.decode(unit), picture)


@pytest.mark.parametrize("codec", VIDEO, ids=lambda each: each.value)
def test_a_size_that_the_codec_does_not_take_is_refused_in_a_sentence(codec):
    speck = RawImage(1, 1, PixelFormat.GRAY8, b"0")
    refused = pytest.raises(InvalidInputError, match="1 x 1 pixels cannot be encoded as h26")
    with closing(encoder_of(codec)) as encoder, refused:
        encoder.encode(speck, begins=True)
