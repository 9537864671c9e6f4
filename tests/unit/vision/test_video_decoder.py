"""Video in a process of its own: the same pixels, no made-up ones, and an end to what harms."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import List, Optional

import numpy as np
import psutil
import pytest

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from common.vision.confined_process import start_server
from common.vision.limits import DEFAULT_LIMITS, ImageSize
from common.vision.resize import resize_bilinear
from common.vision.video.decoder_process import VideoDecoder
from common.vision.video.limits import VideoLimits
from tests.videos import KEY_INTERVAL, cut, decoded, encoded, moving_pictures, without

H264, H265 = VideoCodec
LIMITS = VideoLimits(1_000_000, DEFAULT_LIMITS)
SIZE = ImageSize(160, 120)
WAITS = "frames are served again from the next key frame on"


class Stream:
    """Decodes one access unit after the other."""

    def __init__(self, codec: VideoCodec, **limits: object) -> None:
        self.decoder = VideoDecoder(VideoFormat(codec), replace(LIMITS, **limits))

    def show(self, unit: AccessUnit, size: Optional[ImageSize] = None) -> np.ndarray:
        checked = self.decoder.read(unit)
        return self.decoder.decode(checked, size or checked.size).rgb.copy()

    def follow(self, unit: AccessUnit) -> None:
        self.decoder.follow(self.decoder.read(unit))

    def refuse(self, unit: AccessUnit, words: str) -> None:
        with pytest.raises(InvalidInputError, match=words):
            self.show(unit)

    def process(self) -> psutil.Process:
        return psutil.Process(self.decoder._process._process.pid)


@pytest.fixture(params=VideoCodec)
def codec(request) -> VideoCodec:
    return request.param


@pytest.fixture
def stream(codec: VideoCodec) -> Iterator[Stream]:
    start_server()
    running = Stream(codec)
    yield running
    running.decoder.close()


_made = {}


def made(codec: VideoCodec, count: int = 8, **how: object) -> List[AccessUnit]:
    key = (codec, count, *sorted(how.items()))
    if key not in _made:
        _made[key] = encoded(moving_pictures(count), codec, **how)
    return _made[key]


def test_each_access_unit_gives_its_own_picture_at_once(stream, codec):
    units = made(codec)
    for unit, expected in zip(units, decoded(units, codec)):
        np.testing.assert_array_equal(stream.show(unit), expected)


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p", "gray"])
def test_more_colours_and_fewer_are_shown(stream, codec, pixels):
    units = made(codec, 2, pixels=pixels)
    for unit, expected in zip(units, decoded(units, codec)):
        np.testing.assert_array_equal(stream.show(unit), expected)


def test_slices_of_one_picture_are_decoded_together(stream, codec):
    units = made(codec, 2, slices=4)
    for unit, expected in zip(units, decoded(units, codec)):
        np.testing.assert_array_equal(stream.show(unit), expected)


def test_pictures_are_resized_as_others_are(stream, codec):
    units = made(codec)
    for unit, expected in zip(units[:2], decoded(units, codec)):
        shown = stream.show(unit, ImageSize(200, 150))
        np.testing.assert_array_equal(shown, resize_bilinear(expected, 150, 200))


def test_what_is_only_followed_is_decoded_all_the_same(stream, codec):
    units = made(codec)
    for unit in units[:4]:
        stream.follow(unit)
    np.testing.assert_array_equal(stream.show(units[4]), decoded(units, codec)[4])


def test_the_size_may_change_with_a_key_frame(stream, codec):
    small, large = made(codec), encoded(moving_pictures(2, 240, 320), codec)
    pictures = decoded(small, codec)
    np.testing.assert_array_equal(stream.show(small[0]), pictures[0])
    for unit, expected in zip(large, decoded(large, codec)):
        np.testing.assert_array_equal(stream.show(unit), expected)
    np.testing.assert_array_equal(stream.show(small[KEY_INTERVAL]), pictures[KEY_INTERVAL])


def test_a_damaged_access_unit_shows_nothing_and_neither_do_those_that_need_it(stream, codec):
    units = encoded(moving_pictures(8, 240, 320, noise=30), codec)
    stream.show(units[0])
    stream.show(units[1])
    stream.refuse(cut(units[2], 0.5), "the access unit is damaged")
    for unit in units[3:KEY_INTERVAL]:
        stream.refuse(unit, WAITS)
    # Not only is it served again, but as if nothing had been.
    for unit, expected in zip(units[KEY_INTERVAL:], decoded(units, codec)[KEY_INTERVAL:]):
        np.testing.assert_array_equal(stream.show(unit), expected)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_truncated_access_unit_is_damaged(share):
    """Of H.264: FFmpeg's decoder of H.265 notices some of this, and no flipped bits."""
    start_server()
    units = encoded(moving_pictures(3, noise=30), H264)
    bare = [without(unit, (6,), H264) for unit in units]
    stream = Stream(H264)
    stream.refuse(cut(bare[0], share), "damaged")
    stream.refuse(units[2], "no key frame|not decoded")
    stream.show(units[0])
    stream.refuse(cut(bare[1], share), "damaged")
    stream.refuse(units[2], WAITS)
    stream.decoder.close()


def test_a_lost_slice_is_damage():
    """Of H.264, as above."""
    start_server()
    stream, unit = Stream(H264), made(H264, 2, slices=4)[0]
    stream.refuse(AccessUnit(unit.data[: unit.data.rindex(b"\0\0\1")], True), "damaged")
    stream.decoder.close()


def test_a_lost_access_unit_is_noticed(stream, codec):
    units = made(codec)
    stream.show(units[0])
    stream.refuse(units[2], "missing|damaged")
    stream.refuse(units[3], WAITS)


def test_a_recovery_point_is_a_key_frame():
    """Also where no parameter sets and no IDR picture come with it, as behind an open group."""
    start_server()
    stream, units = Stream(H264), made(H264, 12, open_gop=1, ref=1)
    later = next(index for index, unit in enumerate(units) if index and unit.key_frame)
    expected = decoded(units, H264)
    for unit, picture in zip(units[later:], expected[later:]):
        np.testing.assert_array_equal(stream.show(unit), picture)
    stream.decoder.close()


def test_a_killed_decoder_is_the_services_fault_and_begins_again(stream, codec):
    units = made(codec)
    stream.show(units[0])
    os.kill(stream.process().pid, signal.SIGKILL)
    for unit in units[1:3]:
        with pytest.raises(UnavailableError, match="killed"):
            stream.show(unit)
    # The frames since the key frame may be sent again.
    for unit in units[:2]:
        stream.follow(unit)
    np.testing.assert_array_equal(stream.show(units[2]), decoded(units, codec)[2])


def test_too_much_cpu_time_is_the_senders_fault(stream, codec):
    units = made(codec)
    stream.show(units[0])
    # As the kernel's timer does it.
    os.kill(stream.process().pid, signal.SIGPROF)
    stream.refuse(units[1], "more CPU time than the limit for 160 x 120 pixels")
    stream.refuse(units[2], WAITS)
    stream.show(units[KEY_INTERVAL])


def test_a_closed_decoder_is_gone(stream, codec):
    stream.show(made(codec)[0])
    process = stream.process()
    stream.decoder.close()
    process.wait(60)
    with pytest.raises(UnavailableError, match="shutting down"):
        stream.show(made(codec)[1])


def test_memory_does_not_grow_with_the_frames(stream, codec):
    units = made(codec, 10)

    def show_all() -> int:
        for unit in units:
            stream.show(unit)
        return stream.process().memory_full_info().uss

    show_all()
    before = show_all()
    for _ in range(20):
        after = show_all()
    assert after - before < 2 << 20


def test_nonsense_ends_neither_the_stream_nor_another(stream, codec):
    """Whatever a decoder does with damage that the reader cannot see, key frames are served."""
    units = made(codec)
    source = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(units[0].data)
        for at in source.integers(len(data) // 2, len(data), 20):
            data[at] = source.integers(256)
        try:
            stream.show(AccessUnit(bytes(data), True))
        except InvalidInputError:
            continue
    np.testing.assert_array_equal(stream.show(units[0]), decoded(units, codec)[0])
