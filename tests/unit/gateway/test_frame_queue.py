"""Which access units of a camera reach a viewer: none without those that it refers to."""

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.frames import EncodedImage
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from services.gateway.live_view.frame_queue import MOST_GROUP_BYTES, FrameQueue, LatestGroups
from tests.unit.gateway.frames import camera_frame, video_frame

GROUP = 5


def put_units(queue, numbers, shown=lambda number: True, **more):
    for number in numbers:
        queue.put(video_frame("a", number, key=number % GROUP == 0, shown=shown(number), **more))


def numbers(frames):
    return [frame.number for frame in frames]


def test_who_keeps_up_gets_each_unit_at_once_with_the_left_out_ones_before_it():
    queue = FrameQueue()
    put_units(queue, range(3))
    assert numbers(queue.take()) == [0, 1, 2]
    put_units(queue, [3, 4], shown=lambda _: False)
    # There is nothing to show yet, and what waits is not forgotten.
    assert queue.take() == ()
    put_units(queue, [5], shown=lambda _: False)
    put_units(queue, [6])
    # The new group can be shown, so that the rest of the old one is not needed.
    assert numbers(queue.take()) == [5, 6]


def test_who_joins_amid_a_group_gets_it_from_its_key_frame_or_waits():
    groups = LatestGroups()
    put_units(groups, range(8), shown=lambda number: number != 7)
    queue = FrameQueue(groups.of("a"))
    assert numbers(queue.take()) == [5, 6]
    put_units(queue, [8])
    assert numbers(queue.take()) == [7, 8]
    late = FrameQueue()
    put_units(late, [8, 9])
    assert late.take() == ()
    put_units(late, [10])
    assert numbers(late.take()) == [10]


def test_a_group_that_is_skipped_is_skipped_to_its_end():
    queue = FrameQueue()
    put_units(queue, range(2))
    queue.take()
    # The viewer takes nothing for a while.
    put_units(queue, range(2, 13))
    assert numbers(queue.take()) == [10, 11, 12]


def test_what_waits_is_bounded_and_goes_on_with_a_key_frame():
    queue, groups = FrameQueue(), LatestGroups()
    size = MOST_GROUP_BYTES // 3
    for each in (queue, groups):
        put_units(each, range(4), size=size)
    assert queue.take() == () and groups.of("a") == ()
    for each in (queue, groups):
        put_units(each, [4, 5, 6], size=size)
    assert numbers(queue.take()) == numbers(groups.of("a")) == [5, 6]


def test_nothing_follows_on_a_damaged_unit_before_the_next_key_frame():
    queue, groups = FrameQueue(), LatestGroups()
    for each in (queue, groups):
        put_units(each, range(2))
        put_units(each, [2], error=InvalidInputError("the access unit is damaged"))
        put_units(each, [3])
    # It is told of itself.
    (damaged,) = queue.take()
    assert damaged.number == 2 and damaged.is_damaged
    assert queue.take() == () and groups.of("a") == ()
    put_units(queue, range(4, 7))
    assert numbers(queue.take()) == [5, 6]


def test_a_frame_that_no_node_could_serve_is_shown_and_followed():
    queue = FrameQueue()
    put_units(queue, [0])
    put_units(queue, [1], error=UnavailableError("no node is there"))
    put_units(queue, [2])
    assert numbers(queue.take()) == [0, 1, 2]


def test_a_viewer_that_has_lost_its_decoder_waits_for_a_key_frame():
    queue = FrameQueue()
    put_units(queue, range(2))
    queue.take()
    put_units(queue, [2])
    queue.lose()
    put_units(queue, range(3, 7))
    assert numbers(queue.take()) == [5, 6]


def test_of_pictures_the_newest_wins_and_video_starts_anew_after_them():
    queue, groups = FrameQueue(), LatestGroups()
    for each in (queue, groups):
        put_units(each, range(2))
        each.put(camera_frame("a", 2))
        each.put(camera_frame("a", 3))
        put_units(each, [4])
    (picture,) = queue.take()
    assert picture.number == 3 and isinstance(picture.picture, EncodedImage)
    assert queue.take() == () and groups.of("a") == ()


def test_the_cameras_groups_are_their_own():
    groups = LatestGroups()
    for number in range(3):
        for camera in ("a", "b"):
            unit = AccessUnit(b"x", number == 0)
            groups.put(video_frame(camera, number, key=number == 0))
            assert groups.of(camera)[-1].picture == unit
    assert numbers(groups.of("b")) == [0, 1, 2]
    assert groups.of("b")[0].video == VideoFormat(VideoCodec.H264)
