import cv2
import pytest

from common.bundle import FixedInput, ShortestEdgeInput
from common.domain.errors import InvalidInputError
from tandem.evaluation.picture_set import Picture
from tandem.evaluation.sending import JpegSending, load
from tandem.pictures import decode_picture
from tests.streams import encoded, picture


@pytest.fixture
def path(tmp_path):
    """120 rows, 160 columns."""
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(1), ".png"))
    return path


def test_a_file_goes_as_it_is(path):
    sent = load(Picture(1, path), None)
    assert sent.image.data == path.read_bytes()
    assert (sent.scale_x, sent.scale_y) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("policy", "shape", "scale"),
    [
        (None, (120, 160), 1.0),
        (FixedInput(height=64, width=64), (48, 64), 2.5),
        (ShortestEdgeInput(shortest_edge=60, longest_edge=100), (60, 80), 2.0),
        # A larger input does not make the picture any better.
        (FixedInput(height=480, width=640), (120, 160), 1.0),
    ],
)
def test_jpeg_and_the_way_back_to_the_picture_s_pixels(path, policy, shape, scale):
    sent = load(Picture(1, path), JpegSending(90, policy))
    assert sent.image.data.startswith(b"\xff\xd8")
    assert decode_picture(sent.image).shape[:2] == shape
    assert (sent.scale_x, sent.scale_y) == (scale, scale)


def test_quality_is_heeded(path):
    expected = cv2.imencode(".jpg", cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
    assert load(Picture(1, path), JpegSending(20)).image.data == expected.tobytes()


def test_what_cannot_be_decoded_is_left_to_the_server(path):
    path.write_bytes(b"no picture")
    assert load(Picture(1, path), JpegSending(20)).image.data == b"no picture"


def test_a_file_that_is_gone_is_named(path):
    path.unlink()
    with pytest.raises(InvalidInputError, match=r"a\.png cannot be read"):
        load(Picture(1, path), None)
