"""Whatever bytes arrive, latents are decoded or refused, soon."""

import re
import tracemalloc

import numpy as np
import pytest

from common.bundle import LatentRate
from common.codec.latent import MAX_LEVELS, LatentCoder
from common.codec.latent_contexts import KINDS
from common.codec.latent_levels import CodedLevels
from common.codec.latent_tables import LatentTables
from common.domain.codec import LATENT_CODECS
from common.domain.errors import InvalidInputError, ReferenceMissingError
from tests.unit.codec.latents import CHANNELS, clip, coder, invented

SHAPE = (CHANNELS, 9, 12)


def pair():
    """A reference, and a frame coded given it."""
    one = coder(keep_within=12)
    first, second = (frame[None] for frame in clip(2, seed=11))
    reference = one.levels(first)
    return one, reference, one.levels(second, reference)


@pytest.mark.parametrize("given", [False, True])
def test_too_short_and_too_long_payloads_are_refused(given):
    one, reference, frame = pair()
    reference = reference if given else None
    data = one.encode(CodedLevels.after(reference, frame.levels), reference)
    for bad in (b"", data[:1], data[: len(data) // 2], data[:-1], data + b"\0", data + data):
        with pytest.raises(InvalidInputError, match="no bytes|ends before|goes on"):
            one.decode(bad, SHAPE, reference)


@pytest.mark.parametrize("given", [False, True])
def test_damaged_payloads_are_levels_or_refused(given):
    one, reference, frame = pair()
    reference = reference if given else None
    data = one.encode(CodedLevels.after(reference, frame.levels), reference)
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            damaged[place] ^= 1 << random.integers(8)
        check_safe(one, bytes(damaged), SHAPE, reference)


@pytest.mark.parametrize("shape", [SHAPE, (CHANNELS, 1, 1), (CHANNELS, 40, 50)], ids=str)
def test_noise_is_levels_or_refused(shape):
    one = coder(keep_within=12)
    random = np.random.default_rng(1)
    reference = CodedLevels.after(None, random.integers(-3, 4, shape).astype(np.int16))
    heads = [b"\0", bytes([0x80 | reference.check])]
    for size in (0, 1, 2, 7, 60, 500):
        for head in heads:
            for body in (random.bytes(size), bytes(size), b"\xff" * size):
                check_safe(one, head + body, shape, reference)


def check_safe(one, data, shape, reference):
    try:
        coded = one.decode(data, shape, reference)
    except (InvalidInputError, ReferenceMissingError):
        return
    assert coded.levels.shape == shape
    assert np.isfinite(one.latents(coded)).all()
    assert np.abs(one.latents(coded)).max() <= 32767 + 8


def longest():
    """Levels that take as many decisions as any, by tables to which every answer is unlikely."""
    tables = {
        kind: {name: (0,) * size.entries(1) for name, size in of_kind.items()}
        for kind, of_kind in KINDS.items()
    }
    for kind in ("key_some", "key_two", "key_more"):
        tables[kind]["channel"] = (-2048,)
    tables["key_longer"]["bits"] = (-2048,) * 14 + (2048, 0)
    return LatentCoder(LatentRate(step=1), tables), np.full((1, 60, 60), 32767, np.int16)


def test_the_longest_payload_is_read_and_a_longer_one_costs_nothing():
    one, levels = longest()
    data = one.encode(CodedLevels.after(None, levels))
    # Many times what is unfolded at once.
    assert len(data) > 30 * levels.size
    decoded = one.decode(data, levels.shape)
    np.testing.assert_array_equal(decoded.levels, levels)
    for end in range(8, len(data), 4001):
        with pytest.raises(InvalidInputError, match="ends before"):
            one.decode(data[:end], levels.shape)
    tracemalloc.start()
    try:
        for reference in (None, decoded):
            with pytest.raises(InvalidInputError, match="take at most"):
                one.decode(bytes(len(data) + (8 << 20)), levels.shape, reference)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_long_payload_is_unfolded_only_as_far_as_it_is_read():
    """One of the memory of its bits, not of a number of Python's for each of them."""
    shape = (CHANNELS, 60, 60)
    data = coder().encode(CodedLevels.after(None, np.zeros(shape, np.int16)))
    padded = data + bytes(1_500_000)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError, match="goes on"):
            coder().decode(padded, shape)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(padded)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("head", range(1, 128))
def test_another_first_byte_is_refused(head):
    with pytest.raises(InvalidInputError, match=f"cannot begin with {head}"):
        coder().decode(bytes([head]) + b"\0" * 50, SHAPE)


def test_levels_beyond_the_largest_latent_are_refused():
    tables = invented(CHANNELS)
    levels = np.zeros(SHAPE, np.int16)
    levels[0, 0, 0] = 2000
    data = LatentCoder(LatentRate(step=16), tables).encode(CodedLevels.after(None, levels))
    with pytest.raises(InvalidInputError, match="a level is beyond 1024"):
        LatentCoder(LatentRate(step=32), tables).decode(data, SHAPE)


def test_a_shape_beyond_the_limit_is_refused_at_once():
    for shape in ((CHANNELS, MAX_LEVELS, 1), (CHANNELS, 2**31, 2**31)):
        with pytest.raises(InvalidInputError, match="more than"):
            coder().decode(b"\0", shape)


@pytest.mark.parametrize("shape", [(CHANNELS + 1, 9, 12), (9, 12), (1, CHANNELS, 9, 12)], ids=str)
def test_a_shape_of_other_latents_is_refused(shape):
    with pytest.raises(InvalidInputError, match=re.escape(f"of shape {shape} are not")):
        coder().decode(b"\0", shape)


def whole(tables):
    return {"channels": CHANNELS, "rates": {codec.value: tables for codec in LATENT_CODECS}}


def test_tables_that_are_not_those_of_the_format_are_refused():
    good = invented(CHANNELS)
    LatentTables.model_validate(whole(good))
    lacking = {kind: tables for kind, tables in good.items() if kind != "key_two"}
    short = {**good, "key_positive": {**good["key_positive"], "signs": (1, 2)}}
    wild = {**good, "key_longer": {"bits": (2049,) * 16}}
    for bad in (lacking, short, wild, {**good, "more": {}}):
        with pytest.raises(ValueError, match="tables of the format|less than or equal to 2048"):
            LatentTables.model_validate(whole(bad))
