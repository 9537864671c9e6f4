"""Decisions are written in little more than their odds tell, and read back."""

import math

import numpy as np
import pytest

from common.codec.latent_codes import (
    BLOCK_SIZES,
    LARGEST_ODDS,
    ODDS_UNIT,
    RUN_BITS,
    block_code,
    odds_to_codes,
)
from common.codec.latent_decisions import DecisionReader, DecisionWriter
from common.domain.errors import InvalidInputError
from tests.unit.codec.latent_reference import Reader


def drawn(random, odds):
    return random.random(len(odds)) < 1 / (1 + np.exp(-odds / ODDS_UNIT))


def written(steps):
    writer = DecisionWriter()
    for odds, answers in steps:
        writer.decide(odds, answers)
    return writer.to_bytes()


def ideal_bytes(steps):
    bits = 0.0
    for odds, answers in steps:
        bits += float(np.logaddexp(0, np.where(answers, -odds, odds) / ODDS_UNIT).sum())
    return bits / math.log(2) / 8


def steps_of(random, sizes, spread):
    steps = []
    for size in sizes:
        odds = np.clip(np.rint(random.normal(0, spread, size)), -LARGEST_ODDS, LARGEST_ODDS)
        steps.append((odds.astype(np.int32), drawn(random, odds)))
    return steps


@pytest.mark.parametrize("code", BLOCK_SIZES)
def test_a_block_code_is_complete_and_no_word_begins_another(code):
    book = block_code(code)
    assert len(book.words) == 1 << BLOCK_SIZES[code]
    assert sum(2.0**-length for length in book.lengths.tolist()) == 1
    words = [
        format(word, f"0{length}b")
        for word, length in zip(book.words.tolist(), book.lengths.tolist())
    ]
    for word in words:
        assert [other for other in words if other.startswith(word)] == [word]


def test_each_code_has_its_range_of_odds_on_both_sides():
    codes = odds_to_codes()
    yes, no = codes[LARGEST_ODDS + 1 :], codes[:LARGEST_ODDS][::-1]
    np.testing.assert_array_equal(yes, no + 16)
    assert sorted(set(no.tolist())) == [0, *BLOCK_SIZES, *RUN_BITS]
    assert (np.diff(no.astype(int)) >= 0).all()


@pytest.mark.parametrize("odds", [0, 8, 20, 29, 39, 50, 61, 73, 84, 95, 106, 120])
def test_every_code_costs_what_its_odds_tell(odds):
    random = np.random.default_rng(odds)
    same = np.full(200_000, -odds, np.int32)
    steps = [(same, drawn(random, same))]
    assert len(written(steps)) <= 1.02 * ideal_bytes(steps) + 2


@pytest.mark.parametrize("spread", [5, 20, 50, 100])
@pytest.mark.parametrize("sizes", [(20,), (300, 40, 5, 1), (864,) * 4 + (93, 8, 1)])
def test_many_steps_cost_within_three_percent_and_few_bytes(sizes, spread):
    random = np.random.default_rng(spread)
    written_bytes, ideal = 0, 0.0
    for _ in range(20):
        steps = steps_of(random, sizes, spread)
        written_bytes += len(written(steps))
        ideal += ideal_bytes(steps)
    assert written_bytes / 20 <= 1.02 * ideal / 20 + 4


@pytest.mark.parametrize("seed", range(60))
def test_what_was_written_is_read_by_reader_and_reference(seed):
    random = np.random.default_rng(seed)
    sizes = random.integers(0, random.choice([2, 40, 400]), random.integers(1, 8))
    steps = steps_of(random, sizes, random.choice([5, 30, 120]))
    data = written(steps)
    reader, reference = DecisionReader(data), Reader(data)
    for odds, answers in steps:
        np.testing.assert_array_equal(reader.decide(odds), answers)
        assert reference.step(odds.tolist()) == answers.tolist()
    reader.finish()
    reference.end()


def test_unlikely_answers_are_written_too():
    odds = np.repeat(np.array([-5000, 5000, -LARGEST_ODDS, 0], np.int32), 50)
    answers = np.repeat([True, False, True, True], 50)
    data = written([(odds, answers)])
    np.testing.assert_array_equal(DecisionReader(data).decide(odds), answers)


def test_nothing_is_written_as_nothing():
    assert written([(np.zeros(0, np.int32), np.zeros(0, bool))]) == b""
    DecisionReader(b"").finish()


@pytest.mark.parametrize("odds", [0, 10, 20, 60, 127])
def test_missing_and_further_bits_are_refused(odds):
    random = np.random.default_rng(1)
    same = np.full(5000, odds, np.int32)
    data = written([(same, drawn(random, same))])
    with pytest.raises(InvalidInputError, match="ends before"):
        reader = DecisionReader(data[:-2])
        reader.decide(same)
        reader.finish()
    for longer in (data + b"\0", data[:-1] + bytes([data[-1]]) + b"\1"):
        reader = DecisionReader(longer)
        reader.decide(same)
        with pytest.raises(InvalidInputError, match="goes on"):
            reader.finish()
