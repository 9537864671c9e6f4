"""Latents become levels, levels become bytes, and both ends have the same."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from common.bundle import LatentRate
from common.codec.latent import LatentCoder
from common.codec.latent_levels import MAX_LATENT, CodedLevels, largest_level
from common.domain.errors import InvalidInputError, ReferenceMissingError
from tests.unit.codec import latent_reference
from tests.unit.codec.latents import CHANNELS, STEP, calibrated, clip, coder, invented

SHAPE = (CHANNELS, 9, 12)


def sent(sender, frames, receiver=None):
    """Codes frames one after the other; what both ends hold at the end, and all sizes."""
    receiver = receiver or sender
    here = there = None
    sizes = []
    for frame in frames:
        now = sender.levels(frame[None], here)
        data = sender.encode(now, here)
        there = receiver.decode(data, now.levels.shape, there)
        here = now
        np.testing.assert_array_equal(there.levels, here.levels)
        np.testing.assert_array_equal(there.change, here.change)
        assert there.check == here.check
        sizes.append(len(data))
    return there, sizes


def as_places(values):
    return {place: int(value) for place, value in np.ndenumerate(values)}


def by_reference(tables, data, shape, reference=None):
    """The levels that the specification finds in a payload."""
    reader = latent_reference.Reader(data[1:])
    if data[0]:
        places = latent_reference.next_frame(
            reader, tables, shape, as_places(reference.levels), as_places(reference.change)
        )
    else:
        places = latent_reference.key_frame(reader, tables, shape)
    reader.end()
    levels = np.zeros(shape, np.int64)
    for place, level in places.items():
        levels[place] = level
    return levels


@pytest.mark.parametrize(
    ("step", "latents", "levels"),
    [
        (16, [0, 7, 8, 9, -8, -9, 24, 160], [0, 0, 1, 1, 0, -1, 2, 10]),
        (1, [0, 1, -1, MAX_LATENT, -MAX_LATENT], [0, 1, -1, MAX_LATENT, -MAX_LATENT]),
        (5, [2, 3, -2, -3, 12, 13], [0, 1, 0, -1, 2, 3]),
        (1 << 15, [MAX_LATENT, -MAX_LATENT, 16383], [1, -1, 0]),
    ],
)
def test_a_level_is_the_nearest_and_comes_back_exact(step, latents, levels):
    one = LatentCoder(LatentRate(step=step), invented(1))
    coded = one.levels(np.array(latents, np.float32).reshape(1, 1, 1, -1))
    assert coded.levels.ravel().tolist() == levels
    back = one.latents(coded)
    assert back.dtype == np.float32
    assert back.shape == (1, 1, 1, len(latents))
    assert back.ravel().tolist() == [level * step for level in levels]


def test_a_latent_within_the_threshold_keeps_its_level():
    one = LatentCoder(LatentRate(step=16, keep_within=12), invented(1))
    first = one.levels(np.array([[[[0, 0, 0, 32, 32]]]], np.float32))
    then = one.levels(np.array([[[[12, -12, 13, 20, 19]]]], np.float32), first)
    assert then.levels.ravel().tolist() == [0, 0, 1, 2, 1]
    assert then.change.ravel().tolist() == [0, 0, 1, 0, -1]


@pytest.mark.parametrize("keep_within", [0, 12])
@pytest.mark.parametrize("shape", [(9, 12), (1, 1), (1, 7), (6, 1), (2, 2), (13, 17)], ids=str)
def test_clips_of_any_size_come_through(shape, keep_within):
    sent(coder(keep_within=keep_within), clip(6, CHANNELS, *shape, seed=9))


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 32])
def test_any_number_of_channels_comes_through(channels):
    one = LatentCoder(LatentRate(step=STEP), invented(channels))
    sent(one, clip(4, channels, 5, 4))


@pytest.mark.parametrize("shape", [(CHANNELS, 0, 0), (CHANNELS, 0, 12)])
def test_a_grid_without_cells_has_one_byte(shape):
    one = coder()
    empty = CodedLevels.after(None, np.zeros(shape, np.int16))
    data = one.encode(empty)
    assert len(data) == 1
    again = one.decode(data, shape)
    assert again.levels.shape == shape
    assert one.latents(again).shape == (1, *shape)
    after = one.decode(one.encode(CodedLevels.after(again, again.levels), again), shape, again)
    assert after.levels.shape == shape


def test_what_stays_costs_next_to_nothing_and_a_cut_no_more_than_a_key_frame():
    one = coder(keep_within=12)
    first, other = (clip(1, seed=seed)[0] for seed in (5, 6))
    _, still = sent(one, [first, first, first])
    assert 10 * max(still[1:]) < still[0]
    _, cut = sent(one, [first, other])
    alone = len(one.encode(one.levels(other[None])))
    assert cut[1] <= alone


@pytest.mark.parametrize("step", [1, 3, STEP])
def test_every_level_that_a_latent_may_have_can_be_coded(step):
    rate = LatentRate(step=step)
    one = LatentCoder(rate, invented(CHANNELS))
    random = np.random.default_rng(0)
    most = largest_level(rate)
    extremes = random.choice([-most, most, 0, 7, 8, 9, -255, 1000 % (most + 1)], SHAPE)
    wide = random.integers(-most, most + 1, SHAPE)
    reference = None
    for levels in (extremes, -extremes, wide, wide[::-1], np.zeros(SHAPE), extremes):
        now = CodedLevels.after(reference, levels.astype(np.int16))
        for given in (None, reference):
            expected = CodedLevels.after(given, now.levels)
            back = one.decode(one.encode(expected, given), SHAPE, given)
            np.testing.assert_array_equal(back.levels, now.levels)
        reference = now


@pytest.mark.parametrize("seed", range(12))
def test_the_specification_is_enough_to_decode(seed):
    random = np.random.default_rng(seed)
    shape = (int(random.integers(1, 11)), int(random.integers(1, 8)), int(random.integers(1, 8)))
    tables = invented(shape[0])
    one = LatentCoder(LatentRate(step=1), tables)
    reference = None
    spread = random.choice([0.3, 1, 4, 300])
    levels = np.zeros(shape)
    for _ in range(4):
        fresh = np.rint(random.laplace(0, spread, shape))
        levels = np.where(random.random(shape) < random.choice([0.05, 0.5]), fresh, levels)
        now = CodedLevels.after(reference, levels.astype(np.int16))
        data = one.encode(now, reference)
        np.testing.assert_array_equal(by_reference(tables, data, shape, reference), levels)
        reference = now


@pytest.mark.parametrize("seed", range(3))
def test_the_specification_is_enough_for_calibrated_tables(seed):
    one, tables = coder(keep_within=12), calibrated(keep_within=12)[1]
    reference = None
    for frame in clip(5, seed=20 + seed):
        now = one.levels(frame[None], reference)
        data = one.encode(now, reference)
        found = by_reference(tables, data, SHAPE, reference)
        np.testing.assert_array_equal(found, now.levels)
        reference = now


def test_another_reference_is_noticed():
    one = coder()
    frames = [one.levels(frame[None]) for frame in clip(40, seed=3)]
    data = one.encode(CodedLevels.after(frames[0], frames[1].levels), frames[0])
    with pytest.raises(ReferenceMissingError):
        one.decode(data, SHAPE)
    noticed = 0
    for other in frames[2:]:
        try:
            one.decode(data, SHAPE, other)
        except ReferenceMissingError:
            noticed += 1
        except InvalidInputError:
            pass
    # Seven bits: one in 128 is taken for the right one.
    assert noticed >= len(frames) - 4


def test_a_reference_that_changed_otherwise_is_another():
    levels = np.ones(SHAPE, np.int16)
    alone = CodedLevels.after(None, levels)
    after = CodedLevels.after(CodedLevels.after(None, np.zeros(SHAPE, np.int16)), levels)
    assert alone.check != after.check


@pytest.mark.parametrize("latent", [np.nan, np.inf, -np.inf, MAX_LATENT + 1, -MAX_LATENT - 1])
def test_a_latent_that_is_none_is_refused(latent):
    latents = np.zeros((1, *SHAPE), np.float32)
    latents[0, 2, 3, 4] = latent
    with pytest.raises(InvalidInputError, match="no number or beyond 32767"):
        coder().levels(latents)


def test_another_shape_is_refused():
    one = coder()
    small = one.levels(clip(1, rows=4)[0][None])
    large = clip(1)[0][None]
    with pytest.raises(InvalidInputError, match="cannot be coded given"):
        one.levels(large, small)
    with pytest.raises(InvalidInputError, match="cannot be coded given"):
        one.encode(one.levels(large), small)
    with pytest.raises(InvalidInputError, match="cannot be coded given"):
        one.decode(b"\x80", SHAPE, small)
    with pytest.raises(InvalidInputError, match="no single frame"):
        one.levels(np.zeros((2, *SHAPE), np.float32))
    with pytest.raises(InvalidInputError, match="of 8 channels"):
        one.encode(one.levels(np.zeros((1, CHANNELS + 1, 9, 12), np.float32)))


def test_threads_share_a_coder():
    one = coder()
    frames = [one.levels(frame[None]) for frame in clip(8, seed=4)]
    alone = [one.encode(frame) for frame in frames]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(one.encode, frames * 10))
        back = list(threads.map(lambda data: one.decode(data, SHAPE), together))
    assert together == alone * 10
    for index, each in enumerate(back):
        np.testing.assert_array_equal(each.levels, frames[index % 8].levels)
