"""What a camera of the gateway sends: its video as it is, or pictures; no more than it is to."""

from itertools import islice

from common.domain.frames import EncodedImage
from common.domain.video import AccessUnit
from services.gateway.cameras.configuration import CameraOptions
from services.gateway.cameras.pictures import CameraPictures
from tests.unit.tandem.factories import write_camera_video, write_video

RATE, LIMIT = 50, 10


def assert_limited(frames):
    seconds = frames[-1].read_at_seconds - frames[0].read_at_seconds
    # The first and the last, and one that made up for a wait.
    assert 3 <= len(frames) <= seconds * LIMIT + 3


def read(path, count, tell=lambda _: None, **options):
    pictures = CameraPictures(CameraOptions(name="a", url=str(path), **options), tell)
    frames = list(islice(pictures, count))
    pictures.close()
    return frames


def test_of_video_every_unit_comes_and_those_over_the_limit_are_to_be_decoded_only(tmp_path):
    path = write_camera_video(tmp_path / "v.mp4", frames=20, rate=RATE)
    frames = read(path, 50, frames_per_second=LIMIT)
    units = [frame.content for frame in frames]
    assert all(isinstance(unit, AccessUnit) and frame.video for unit, frame in zip(units, frames))
    # The file begins again, with its first key frame.
    assert [at for at, unit in enumerate(units) if unit.key_frame] == [*range(0, 50, 5)]
    assert units[20].data == units[0].data
    assert_limited([frame for frame in frames if not frame.content.decode_only])
    assert not any(frame.content.decode_only for frame in read(path, 20))


def test_of_pictures_those_over_the_limit_do_not_come_and_why_is_told_once(tmp_path):
    path, told = write_video(tmp_path / "v.mp4", frames=20, rate=RATE), []
    frames = read(path, 6, told.append, frames_per_second=LIMIT)
    assert all(isinstance(frame.content, EncodedImage) for frame in frames)
    assert_limited(frames)
    (sentence,) = told
    assert "are sent as JPEG: the video has B frames" in sentence
