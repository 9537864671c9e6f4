"""What the page is sent of a camera's video."""

import asyncio
import json

import numpy as np
import pytest

from common.domain.frames import EncodedImage
from common.domain.video import VideoCodec
from services.gateway.cameras.feed import CameraFeed
from services.gateway.live_view.codec_strings import codec_string
from services.gateway.live_view.frame_queue import LatestGroups
from services.gateway.live_view.messages import frame_message
from services.gateway.live_view.stills import Stills
from tandem.pictures import decode_picture
from tests.unit.gateway.frames import found, video_frame
from tests.videos import decoded, encoded, moving_pictures


@pytest.mark.parametrize(
    ("codec", "parameters", "told"),
    [
        # Profile 66 and its constraint set 1, level 3.1; profile 100, level 4.
        (VideoCodec.H264, {"profile": "baseline", "level": "3.1"}, "avc1.42C01F"),
        (VideoCodec.H264, {"level": "4.0"}, "avc1.640028"),
        # Main profile; the level that x265 takes for so small a picture, 1; frames only.
        (VideoCodec.H265, {}, "hev1.1.6.L30.90"),
    ],
)
def test_a_video_is_named_as_browsers_do(codec, parameters, told):
    profile = parameters.pop("profile", None)
    pictures = moving_pictures(1)
    if profile:
        parameters |= {"cabac": 0, "8x8dct": 0, "weightp": 0}
    (unit,) = encoded(pictures, codec, **parameters)
    assert codec_string(codec, unit.data) == told


@pytest.mark.parametrize("data", [b"", b"\0\0\1", b"\0\0\1\x67", b"\0\0\1\x65abc", b"no video"])
def test_what_does_not_tell_its_kind_has_no_name(data):
    assert codec_string(VideoCodec.H264, data) == ""
    assert codec_string(VideoCodec.H265, data) == ""


def parsed(message):
    length = int.from_bytes(message[:4], "big")
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def test_units_come_one_after_another_with_the_boxes_of_the_last():
    units = encoded(moving_pictures(3))
    frames = [video_frame("a", at, unit=unit, shown=False) for at, unit in enumerate(units[:2])]
    frames.append(video_frame("a", 2, found(1), unit=units[2]))
    head, data = parsed(frame_message(frames))
    assert data == b"".join(unit.data for unit in units)
    assert head["units"] == [[len(unit.data), unit.key_frame] for unit in units]
    assert head["codec"].startswith("avc1.") and head["type"] == "video/h264"
    assert head["number"] == 2 and len(head["boxes"]) == 1
    head, _ = parsed(frame_message(frames[1:]))
    assert head["codec"] == ""


async def test_stills_are_the_frames_that_are_shown_and_made_while_somebody_looks():
    units = encoded(moving_pictures(9))
    expected = decoded(units)
    feed, groups = CameraFeed(), LatestGroups()
    stills, seen = Stills(feed, groups), asyncio.Queue()
    with feed.telling(groups):
        for number in range(3):
            feed.publish(video_frame("a", number, unit=units[number]))
        with stills.watching("a", seen.put_nowait):
            # Who joins amid a group gets its latest frame.
            still = await asyncio.wait_for(seen.get(), 60)
            assert still.number == 2 and still.video is None
            assert nearest(still.picture, expected) == 2
            for number in range(3, 9):
                feed.publish(video_frame("a", number, unit=units[number], shown=number == 8))
            still = await asyncio.wait_for(seen.get(), 60)
            assert still.number == 8
            assert nearest(still.picture, expected) == 8
    await asyncio.sleep(0)
    assert len(feed._subscriptions) == 0


def nearest(picture, frames):
    assert isinstance(picture, EncodedImage)
    shown = decode_picture(picture)[..., ::-1].astype(int)
    return int(np.argmin([np.abs(shown - each).mean() for each in frames]))
