"""What of a session's video is kept, and what of it each decoder lacks, by tables and at random."""

import random

import pytest

from common.domain.errors import InternalError, InvalidInputError, ResourceExhaustedError
from services.orchestrator.session.groups import DecoderProgress, KeptVideo
from tests.unit.orchestrator.toys import access_unit

UNIT_BYTES = 10
MEBIBYTE = 1 << 20


class Room:
    """Room of a given size."""

    def __init__(self, size=1 << 30):
        self.size = size
        self.kept = 0

    def try_keep(self, count):
        if self.kept + count > self.size:
            return False
        self.kept += count
        return True

    def keep_less(self, count):
        self.kept -= count


def video_of(kinds, room=None, most_bytes=MEBIBYTE):
    """A session's video of `K` (key) and `P` frames; the places of the frames, by their ids."""
    kept = KeptVideo(most_bytes, room or Room())
    places = [
        kept.add(access_unit(number, kind == "K"), UNIT_BYTES, key_frame=kind == "K")
        for number, kind in enumerate(kinds)
    ]
    return kept, places


@pytest.mark.parametrize(
    ("sent", "asked", "lacks"),
    [
        ([], 0, []),
        ([], 3, [0, 1, 2]),
        ([0, 1, 2], 3, []),
        ([0], 3, [1, 2]),
        # Past it: it cannot be decoded again there.
        ([0, 1, 2, 3], 3, None),
        ([0, 1, 2, 3], 2, None),
        # Another group starts at its own key frame, whatever of the earlier one was left out.
        ([0], 4, []),
        ([0], 6, [4, 5]),
        ([0, 1, 2, 3], 5, [4]),
        ([4], 1, None),
        ([4], 6, [5]),
    ],
)
def test_what_a_decoder_lacks(sent, asked, lacks):
    _, places = video_of("KPPPKPPP")
    decoder = DecoderProgress()
    for number in sent:
        decoder.sent(places[number])
    lack = decoder.lacks(places[asked])
    if lacks is None:
        assert lack is None
    else:
        assert [frame.frame_id for frame in lack.frames] == lacks
        assert lack.data_bytes == UNIT_BYTES * len(lacks)


def test_a_decoder_that_lost_its_state_takes_no_frame_any_more():
    _, places = video_of("KPK")
    decoder = DecoderProgress()
    decoder.sent(places[0])
    decoder.lost()
    assert [decoder.lacks(place) for place in places] == [None] * 3


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_sent_where_every_decoder_gets_whole_groups_in_order_and_nothing_twice(seed):
    chance = random.Random(seed)
    kinds = "K" + "".join(chance.choice("KPPPPP") for _ in range(200))
    _, places = video_of(kinds)
    decoders = [(DecoderProgress(), []) for _ in range(3)]
    refused = 0
    for number in range(len(places)):
        # Most frames are sent in their order, and some again.
        for asked in {number, max(0, number - chance.randrange(8))}:
            decoder, came = chance.choice(decoders)
            lack = decoder.lacks(places[asked])
            refused += lack is None
            if lack is not None:
                decoder.sent(places[asked])
                came += [frame.frame_id for frame in lack.frames] + [asked]
    assert refused
    for _, came in decoders:
        assert len(came) > 50
        for before, after in zip([-2, *came], came):
            assert after > before
            assert kinds[after] == "K" or after == before + 1


def test_frames_before_the_first_key_frame_are_refused_and_keep_nothing():
    room = Room()
    kept = KeptVideo(MEBIBYTE, room)
    for number in range(3):
        with pytest.raises(InvalidInputError, match="no key frame has come"):
            kept.add(access_unit(number), UNIT_BYTES, key_frame=False)
    assert room.kept == 0
    assert kept.add(access_unit(3, True), UNIT_BYTES, key_frame=True).frame.frame_id == 3


def test_a_group_is_kept_while_it_is_the_latest_or_a_frame_of_it_is_in_use():
    room = Room()
    kept, places = video_of("KPP", room)
    for place in places:
        kept.release(place)
    assert room.kept == 3 * UNIT_BYTES
    later = kept.add(access_unit(3, True), UNIT_BYTES, key_frame=True)
    assert room.kept == UNIT_BYTES
    kept.hold(later)
    kept.release(later)
    kept.add(access_unit(4, True), UNIT_BYTES, key_frame=True)
    assert room.kept == 2 * UNIT_BYTES
    kept.release(later)
    assert room.kept == UNIT_BYTES


def test_over_the_limit_frames_are_refused_until_the_next_key_frame():
    room = Room()
    kept, places = video_of("KPP", room, most_bytes=3 * UNIT_BYTES)
    for number in (3, 4):
        with pytest.raises(ResourceExhaustedError, match="max_group_mebibytes"):
            kept.add(access_unit(number), UNIT_BYTES, key_frame=False)
    # Those that were taken in can be sent wherever that is needed.
    assert [frame.frame_id for frame in DecoderProgress().lacks(places[2]).frames] == [0, 1]
    for place in places:
        kept.release(place)
    assert room.kept == 0
    kept.add(access_unit(5, True), UNIT_BYTES, key_frame=True)
    kept.add(access_unit(6), UNIT_BYTES, key_frame=False)
    assert room.kept == 2 * UNIT_BYTES


def test_a_key_frame_over_the_limit_is_refused_with_all_that_need_it():
    room = Room()
    kept, _ = video_of("", room, most_bytes=UNIT_BYTES)
    for number, key_frame in ((0, True), (1, False)):
        with pytest.raises(ResourceExhaustedError, match="max_group_mebibytes"):
            kept.add(access_unit(number), 2 * UNIT_BYTES, key_frame=key_frame)
    assert room.kept == 0


def test_where_there_is_no_room_for_a_group_the_refusal_names_the_setting_of_that():
    room = Room(2 * UNIT_BYTES)
    kept, places = video_of("KP", room)
    with pytest.raises(ResourceExhaustedError, match="max_buffered_mebibytes"):
        kept.add(access_unit(2), UNIT_BYTES, key_frame=False)
    for place in places:
        kept.release(place)
    assert room.kept == 0


def test_a_group_that_failed_takes_no_frame_and_the_next_one_does():
    room = Room()
    kept, places = video_of("KPP", room)
    kept.release(places[0])
    kept.fail(places[1].group, InternalError("frame 1 is at fault"))
    assert "frame 1" in str(places[2].group.failed)
    with pytest.raises(InternalError, match="frame 1 is at fault"):
        kept.add(access_unit(3), UNIT_BYTES, key_frame=False)
    kept.release(places[1])
    kept.release(places[2])
    assert room.kept == 0
    assert kept.add(access_unit(4, True), UNIT_BYTES, key_frame=True).group.failed is None
