"""What of a stream of video may reach a decoder, and what is refused, in which words."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import replace
from typing import List

import numpy as np
import pytest

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from common.vision.limits import DEFAULT_LIMITS, ImageSize
from common.vision.video.limits import VideoLimits
from common.vision.video.reader import AccessUnitReader, CheckedUnit
from tests.videos import (
    KEY_INTERVAL,
    BitWriter,
    byte_stream,
    encoded,
    h264_pps,
    h264_slice,
    h264_sps,
    moving_pictures,
    nal_kind,
    nal_units,
    without,
)

H264, H265 = VideoCodec
LIMITS = VideoLimits(50_000_000, DEFAULT_LIMITS)
WAITS = "was not decoded .*; frames are served again from the next key frame on"
# NAL units of parameter sets.
SETS = {H264: (7, 8), H265: (32, 33, 34)}
JPEG = b"\xff\xd8\xff\xe0 and more"


def reader(codec: VideoCodec = H264, sets: bytes = b"", **limits: object) -> AccessUnitReader:
    return AccessUnitReader(VideoFormat(codec, sets), replace(LIMITS, **limits))


def given(*units: bytes, key_frame: bool = True) -> AccessUnit:
    return AccessUnit(byte_stream(units), key_frame)


def made(codec: VideoCodec, count: int = 7, **how: object) -> List[AccessUnit]:
    return encoded(moving_pictures(count), codec, **how)


@pytest.fixture(scope="module", params=VideoCodec)
def codec(request) -> VideoCodec:
    return request.param


@pytest.fixture(scope="module")
def units(codec: VideoCodec) -> List[AccessUnit]:
    return made(codec)


def refused(reading: AccessUnitReader, unit: AccessUnit, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        reading.read(unit)


def passed(unit: CheckedUnit) -> bytes:
    target = np.empty(unit.needed_bytes, np.uint8)
    unit.copy_needed(target)
    return target.tobytes()


def test_a_decoder_begins_once_and_gets_what_it_needs(codec, units):
    checked = [reader_units for reader_units in map(reader(codec).read, units)]
    assert [each.begins for each in checked] == [True] + [False] * 6
    assert {each.size for each in checked} == {ImageSize(160, 120)}
    for unit, each in zip(units[1:], checked[1:]):
        kept = nal_units(passed(each))
        # An encoder's remarks about itself (SEI) reach no decoder.
        assert kept == [part for part in nal_units(unit.data) if part in kept]
        assert not {nal_kind(part, codec) for part in kept} & {6, 39, 40} - {0}


def test_parameter_sets_may_come_out_of_band(codec, units):
    sets = [part for part in nal_units(units[0].data) if nal_kind(part, codec) in SETS[codec]]
    bare = [without(unit, SETS[codec], codec) for unit in units]
    reading = reader(codec, byte_stream(sets))
    first = reading.read(bare[0])
    assert nal_units(passed(first))[: len(sets)] == sets
    assert reading.read(bare[1]).sets == b""
    refused(reader(codec), bare[0], "parameter set that the access unit needs has not come")


def test_a_stream_begins_with_a_key_frame_or_waits_for_one(codec, units):
    sets = [part for part in nal_units(units[0].data) if nal_kind(part, codec) in SETS[codec]]
    for reading in (reader(codec), reader(codec, byte_stream(sets))):
        for unit in units[2:KEY_INTERVAL]:
            refused(reading, unit, "no key frame has come yet")
        assert reading.read(units[KEY_INTERVAL]).begins


def test_what_needs_a_lost_picture_is_refused_until_a_key_frame(codec, units):
    reading = reader(codec)
    reading.read(units[0])
    reading.lost(InvalidInputError("it is damaged"))
    refused(reading, units[1], WAITS)
    refused(reading, units[2], "it is damaged")
    assert reading.read(units[KEY_INTERVAL]).begins
    reading.lost(UnavailableError("the machine is too busy"))
    # It may be sent again, since the service was at fault.
    with pytest.raises(UnavailableError, match="too busy"):
        reading.read(units[KEY_INTERVAL + 1])


def test_what_holds_nothing_for_a_decoder_takes_no_other_with_it(codec, units):
    remarks = b"\x06\x05\x04abcd\x80" if codec is H264 else b"\x4e\x01\x05\x04abcd\x80"
    delimiter = b"\x09\xf0" if codec is H264 else b"\x46\x01\x50"
    reading = reader(codec)
    reading.read(units[0])
    for alone in ((remarks,), (delimiter,), (delimiter, remarks)):
        for key_frame in (False, True):
            refused(reading, given(*alone, key_frame=key_frame), "holds no picture")
    assert [reading.read(unit).begins for unit in units[1:]] == [False] * 6
    # Of these, the decoder would lack what may have changed.
    sets = [part for part in nal_units(units[0].data) if nal_kind(part, codec) in SETS[codec]]
    refused(reading, given(*sets), "holds no picture")
    refused(reading, units[1], WAITS)


def test_a_missing_and_a_repeated_access_unit_are_noticed():
    units = made(H264)
    for unit in (units[3], units[1]):
        reading = reader()
        for each in units[:2]:
            reading.read(each)
        refused(reading, unit, "is missing before this one, or this one came before")
        refused(reading, units[4], WAITS)


@pytest.mark.parametrize("size", [(160, 120), (98, 54), (322, 246)])
def test_the_size_is_what_is_shown(codec, size):
    width, height = size
    unit = encoded(moving_pictures(1, height, width), codec)[0]
    assert reader(codec).read(unit).size == size


def test_the_size_may_change_with_a_key_frame(codec, units):
    reading = reader(codec)
    reading.read(units[0])
    larger = encoded(moving_pictures(2, 240, 320), codec)
    first = reading.read(larger[0])
    assert (first.begins, first.size) == (True, ImageSize(320, 240))
    assert not reading.read(larger[1]).begins
    assert reading.read(units[0]).begins


def test_the_size_may_not_change_without_one():
    reading = reader()
    reading.read(given(h264_sps(160, 128), h264_pps(), h264_slice(0, 0)))
    other = given(h264_sps(320, 128), h264_slice(1, 2, kind=1), key_frame=False)
    refused(reading, other, "parameter sets change without a key frame")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"b_frames": 2}, "has B frames"),
        ({"pixels": "yuv420p", "codec": H265, "b_frames": 2}, "has B frames"),
        ({"tff": 1}, "interlaced"),
        ({"codec": H265, "interlace": "tff"}, "interlaced"),
        ({"codec": H265, "pixels": "yuv420p12le"}, "has 12 bits a colour; served are 8 and 10"),
    ],
)
def test_what_is_not_served_is_refused_by_name(how, words):
    reading = reader(how.get("codec", H264))
    for unit in made(**{"codec": H264, "count": 4, **how}):
        refused(reading, unit, words)


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [(H264, "yuv420p10le"), (H264, "yuv444p"), (H264, "yuv422p"), (H264, "gray")]
    + [(H265, "yuv420p10le"), (H265, "yuv444p"), (H265, "gray")],
)
def test_more_colours_and_fewer_are_served(codec, pixels):
    reading = reader(codec)
    assert [reading.read(unit).begins for unit in made(codec, 2, pixels=pixels)] == [True, False]


def test_b_frames_are_found_where_parameter_sets_do_not_tell():
    reading = reader()
    reading.read(given(h264_sps(160, 128, references=2), h264_pps(), h264_slice(0, 0)))
    reading.read(given(h264_slice(1, 6, kind=1), key_frame=False))
    for order in (2, 8):
        refused(reading, given(h264_slice(2, order, kind=1), key_frame=False), "has B frames")
    # It may have been damage.
    assert reading.read(given(h264_slice(0, 0))).begins


def test_the_order_of_display_may_wrap_around():
    reading = reader()
    reading.read(given(h264_sps(160, 128), h264_pps(), h264_slice(0, 0)))
    for number in range(1, 70):
        reading.read(given(h264_slice(number, 2 * number, kind=1), key_frame=False))


def test_a_renewal_bit_by_bit_is_no_key_frame():
    units = made(H264, 12, intra_refresh=1)
    reading = reader()
    renewing = next(unit for unit in units[1:] if unit.key_frame)
    for unit in units[: units.index(renewing)]:
        reading.read(unit)
    refused(reading, renewing, "renews its picture bit by bit, .* have the encoder send key")


def test_a_frame_that_is_no_key_frame_may_not_say_so(codec, units):
    reading = reader(codec)
    reading.read(units[0])
    refused(reading, AccessUnit(units[1].data, True), "its picture refers to earlier ones")


def test_a_key_frame_need_not_say_so(codec, units):
    assert reader(codec).read(AccessUnit(units[0].data, False)).begins


def test_a_picture_without_references_is_one_where_its_frame_says_so():
    sets = (h264_sps(160, 128), h264_pps())
    intra = b"\x61" + BitWriter().unsigned(0, 7, 0).put(3, 4).put(6, 4).put(0x155, 20).payload()
    assert reader().read(given(*sets, intra)).begins
    refused(reader(), given(*sets, intra, key_frame=False), "no key frame has come yet")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (JPEG, "like a JPEG; send pictures as `encoded`"),
        (b"\0\0\0\x05\x65abcd", "like MP4, with a length"),
        (b"no video", "does not begin with a start code"),
        (b"\0\0\0", "does not begin with a start code"),
        (byte_stream([b"\x09\xf0"]), "holds no picture in h264"),
        (byte_stream([b"\x09"] * 1100), "more NAL units than the limit of 1024"),
        (byte_stream([b"\x67" + bytes([7]) * 5000]), "a parameter set of the video has"),
        (byte_stream([b"\x67\x4d"]), "ends too soon"),
        (byte_stream([b"\x62 partition"]), "partitioned"),
    ],
)
def test_what_is_no_access_unit_is_refused(data, words):
    refused(reader(), AccessUnit(data, True), words)


def test_one_codec_is_not_taken_for_the_other():
    refused(reader(H264), made(H265, 1)[0], "looks like H.265.*says? that it is H.264")
    refused(reader(H265), made(H264, 1)[0], "looks like H.264.*says? that it is H.265")


def test_two_pictures_and_half_pictures_are_no_access_unit(codec, units):
    reading = reader(codec)
    both = AccessUnit(units[0].data + units[1].data, True)
    refused(reading, both, "holds two pictures")
    several = made(codec, 2, slices=3)
    slices = [part for part in nal_units(several[0].data) if nal_kind(part, codec) not in (6, 39)]
    assert reader(codec).read(AccessUnit(byte_stream(slices), True)).begins
    first = next(index for index, part in enumerate(slices) if _is_slice(part, codec))
    headless = AccessUnit(byte_stream(slices[:first] + slices[first + 1 :]), True)
    refused(reader(codec), headless, "begins in the midst of a picture")


def _is_slice(part: bytes, codec: VideoCodec) -> bool:
    return nal_kind(part, codec) < (6 if codec is H264 else 32)


@pytest.mark.parametrize(
    ("sps", "limits", "words"),
    [
        (h264_sps(16384, 8192), {}, "16384 x 8192 pixels, .* the limit is 50000000"),
        (h264_sps(16384, 16), {}, "one side 64 times as long"),
        (h264_sps(4096, 2048, references=16), {"decoder_bytes": 100 << 20}, "max_video_mebibytes"),
    ],
)
def test_limits_are_checked_before_a_decoder_gets_anything(sps, limits, words):
    refused(reader(**limits), given(sps, h264_pps(), h264_slice(0, 0)), words)


def test_an_access_unit_has_a_largest_size():
    unit = AccessUnit(bytes(30 << 20), True)
    refused(reader(), unit, r"has 31457280 bytes; the limit is 16777216 \(max_access_unit_meb")


def test_parameter_sets_do_not_pile_up():
    reading = reader()
    sets = [
        b"\x68" + BitWriter().unsigned(number, 0).payload() + bytes(range(1, 250)) * 16
        for number in range(60)
    ]
    with pytest.raises(InvalidInputError, match="more bytes than the limit of 65536"):
        for each in sets:
            reading.read(given(h264_sps(160, 128), each, h264_slice(0, 0)))


def test_nonsense_is_refused_quickly_and_without_another_error(codec, units):
    """Whatever comes, an error of ours is raised, and a key frame is served afterwards."""
    source = random.Random(1)
    reading = reader(codec)
    for _ in range(300):
        data = bytearray(source.choice(units).data)
        for _ in range(source.randrange(1, 9)):
            data[source.randrange(min(len(data), 60))] = source.randrange(256)
        with contextlib.suppress(InvalidInputError):
            reading.read(AccessUnit(bytes(data), source.random() < 0.5))
    begun = time.process_time()
    for data in (b"\0\0\1" * (4 << 20), b"\0\0\1\x65" + bytes(12 << 20), bytes(12 << 20)):
        with pytest.raises(InvalidInputError):
            reading.read(AccessUnit(data, True))
    assert time.process_time() - begun < 2
    assert reading.read(units[0]).size == (160, 120)
