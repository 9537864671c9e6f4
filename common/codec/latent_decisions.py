"""Writes and reads decisions of given odds, in the codes of `latent_codes`.

The caller decides step by step: it gives the odds of many decisions at once, which may depend on
the decisions of the steps before. A word may reach over several steps: it stands where its first
decision is needed, so that only the last word of each code is filled up.
"""

from __future__ import annotations

from typing import List, Optional, Protocol, Tuple

import numpy as np

from common.codec.latent_codes import (
    BLOCK_SIZES,
    CODES,
    COUNT_SHIFT,
    LARGEST_ODDS,
    LENGTH_MASK,
    PATTERN_MASK,
    PATTERN_SHIFT,
    PLAIN,
    RUN_BITS,
    WINDOW_BITS,
    block_code,
    odds_to_codes,
    reading_tables,
)
from common.domain.errors import InvalidInputError

_FIRST_RUN = min(RUN_BITS)
# Of bytes, whose windows are made when they are needed: eight a byte, each a number of Python's.
_UNFOLDED_BYTES = 1 << 12
_NOTHING = np.zeros(0, bool)


class Decisions(Protocol):
    """What a writer and a reader have in common, so that one description serves both."""

    def decide(self, odds: np.ndarray, answers: Optional[np.ndarray]) -> np.ndarray:
        """Take one step.

        Args:
            odds: integers [n]: log-odds of yes, in units of `ODDS_UNIT`.
            answers: bool [n], what to write; None when reading.

        Returns:
            The answers, bool [n].

        Raises:
            InvalidInputError: when reading, there are too few bits.
        """
        ...


def _codes_of(odds: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The code of each decision, and whether yes is its more probable answer."""
    known = np.take(odds_to_codes(), odds + LARGEST_ODDS, mode="clip")
    return known & 15, known >= 16


class DecisionWriter:
    """Collects decisions, and makes bytes of them."""

    def __init__(self) -> None:
        """Start with none."""
        self._codes: List[np.ndarray] = []
        self._bits: List[np.ndarray] = []

    def decide(self, odds: np.ndarray, answers: Optional[np.ndarray]) -> np.ndarray:
        """Add one step of decisions; see `Decisions.decide`."""
        if answers is None:
            raise ValueError("only known answers can be written")
        codes, probable = _codes_of(odds)
        self._codes.append(codes)
        self._bits.append(answers != probable)
        return answers

    def to_bytes(self) -> bytes:
        """All that was decided; the last byte is filled with zeros."""
        if not sum(map(len, self._codes)):
            return b""
        codes = np.concatenate(self._codes)
        bits = np.concatenate(self._bits)
        sizes = [len(step) for step in self._codes]
        # Steps in the order of their keys, which leave room for the codes below.
        steps = np.repeat(np.arange(0, 16 * len(sizes), 16), sizes)
        order = np.argsort(codes, kind="stable")
        codes, bits, keys = codes[order], bits[order], steps[order] + codes[order]
        ends = np.cumsum(np.bincount(codes, minlength=CODES))
        parts = [(keys[: ends[PLAIN]], bits[: ends[PLAIN]], np.ones(ends[PLAIN], np.int64))]
        for code, size in BLOCK_SIZES.items():
            here = slice(ends[code - 1], ends[code])
            if here.start < here.stop:
                parts.append(_block_words(code, size, keys[here], bits[here]))
        runs = slice(ends[_FIRST_RUN - 1], None)
        if runs.start < len(bits):
            lengths = np.diff(ends[_FIRST_RUN - 1 :])
            parts.append(_run_words(lengths, keys[runs], bits[runs]))
        keys, words, lengths = (np.concatenate(part) for part in zip(*parts))
        order = np.argsort(keys, kind="stable")
        return _packed(words[order], lengths[order])


_Words = Tuple[np.ndarray, np.ndarray, np.ndarray]


def _block_words(code: int, size: int, keys: np.ndarray, bits: np.ndarray) -> _Words:
    """Keys, words and lengths of the blocks; the last one is filled with the probable answer."""
    whole = np.zeros(-(-len(bits) // size) * size, np.int64)
    whole[: len(bits)] = bits
    blocks = whole.reshape(-1, size) @ (1 << np.arange(size - 1, -1, -1))
    book = block_code(code)
    return keys[::size], book.words[blocks], book.lengths[blocks]


def _run_words(sizes: np.ndarray, keys: np.ndarray, bits: np.ndarray) -> _Words:
    """Keys, words and lengths of the runs of all codes for runs; `sizes` has their decisions."""
    # A one after each code's last decision ends every run, so that none reaches into the next code.
    ends = np.cumsum(sizes)
    ones = np.flatnonzero(np.insert(bits, ends, True))
    final = np.searchsorted(ones, ends + np.arange(len(ends)))
    starts = np.concatenate([[0], ones[:-1] + 1])
    zeros = ones - starts
    code = np.repeat(np.arange(len(ends)), np.diff(final, prepend=-1))
    shifts = code + RUN_BITS[_FIRST_RUN]
    whole = zeros >> shifts
    tail = zeros - (whole << shifts)
    # What remains of the last run is filled up: the word of a whole run is the shortest.
    whole[final] += tail[final] > 0
    counts = whole + 1
    counts[final] -= 1
    last = np.cumsum(counts) - 1
    total = int(last[-1]) + 1
    words, lengths = np.zeros(total, np.int64), np.ones(total, np.int64)
    closing = np.ones(len(ones), bool)
    closing[final] = False
    words[last[closing]] = (tail + (1 << shifts))[closing]
    lengths[last[closing]] = shifts[closing] + 1
    # The starts again, among the decisions without the ones that were put in.
    first = np.repeat(starts - code, counts)
    nth = np.arange(total) - np.repeat(last + 1 - counts, counts)
    return keys[first + (nth << np.repeat(shifts, counts))], words, lengths


def _packed(words: np.ndarray, lengths: np.ndarray) -> bytes:
    ends = np.cumsum(lengths)
    shifts = np.repeat(ends, lengths) - np.arange(1, ends[-1] + 1)
    packed: bytes = np.packbits(np.repeat(words, lengths) >> shifts & 1).tobytes()
    return packed


class DecisionReader:
    """Reads what a `DecisionWriter` made."""

    def __init__(self, data: bytes) -> None:
        """Read from the first bit on."""
        self._content = np.frombuffer(data + b"\0\0", np.uint8)
        self._bits = np.unpackbits(self._content[:-2]).view(bool)
        # What is read at each bit of the beginning; see `_unfold`.
        self._windows: List[int] = []
        self._place = 0
        # Of each code, the decisions of its last word that were not needed yet.
        self._left = [_NOTHING] * CODES

    def decide(self, odds: np.ndarray, answers: Optional[np.ndarray] = None) -> np.ndarray:
        """Read one step of decisions; see `Decisions.decide`."""
        codes, probable = _codes_of(odds)
        order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes, minlength=CODES).tolist()
        bits = np.empty(len(codes), bool)
        bits[order] = self._read(counts, len(codes))
        answered: np.ndarray = bits ^ probable
        return answered

    def finish(self) -> None:
        """Check that nothing follows.

        Raises:
            InvalidInputError: there are more bits than decisions, or too few.
        """
        left = len(self._bits) - self._place
        if left < 0:
            raise _too_short()
        if left > 7 or self._bits[self._place :].any():
            raise InvalidInputError("the payload goes on after the last level")

    def _read(self, counts: List[int], total: int) -> np.ndarray:
        """So many decisions of each code, one code after the other."""
        sorted_bits = np.empty(total, bool)
        end = counts[PLAIN]
        if end:
            plain = self._bits[self._place : self._place + end]
            if len(plain) < end:
                raise _too_short()
            sorted_bits[:end] = plain
            self._place += end
        words: List[int] = []
        wanted: List[Tuple[int, int, int, int]] = []
        for code in range(1, CODES):
            if counts[code]:
                start, end = end, end + counts[code]
                missing = counts[code] - len(self._left[code])
                had = self._words(code, missing, words) if missing > 0 else 0
                wanted.append((code, start, end, had))
        fresh = _expanded(words)
        used = 0
        for code, start, end, had in wanted:
            left = self._left[code]
            if had:
                left = np.concatenate([left, fresh[used : used + had]])
                used += had
            sorted_bits[start:end] = left[: end - start]
            self._left[code] = left[end - start :]
        return sorted_bits

    def _words(self, code: int, missing: int, words: List[int]) -> int:
        """Read words until they have the missing decisions; how many they have."""
        table, windows, place, had = reading_tables()[code], self._windows, self._place, 0
        while had < missing:
            try:
                while had < missing:
                    word = table[windows[place]]
                    words.append(word)
                    place += word & LENGTH_MASK
                    had += word >> COUNT_SHIFT
            except IndexError:
                self._unfold()
        self._place = place
        return had

    def _unfold(self) -> None:
        """Make the windows of the bytes that follow those that have theirs.

        Raises:
            InvalidInputError: there are none.
        """
        start = len(self._windows) // 8
        content = self._content[start : start + _UNFOLDED_BYTES + 2].astype(np.int32)
        three = (content[:-2] << 16) + (content[1:-1] << 8) + content[2:]
        if not len(three):
            raise _too_short()
        shifts = np.arange(24 - WINDOW_BITS, 16 - WINDOW_BITS, -1)
        windows = three[:, None] >> shifts & ((1 << WINDOW_BITS) - 1)
        self._windows += windows.ravel().tolist()


def _expanded(words: List[int]) -> np.ndarray:
    """The decisions of words, one after the other."""
    if not words:
        return _NOTHING
    entries = np.array(words, np.int32)
    counts = entries >> COUNT_SHIFT
    ends = np.cumsum(counts)
    # A pattern has six bits; all decisions before them are zeros.
    shifts = np.repeat(ends, counts) - np.arange(1, ends[-1] + 1)
    patterns = np.repeat(entries >> PATTERN_SHIFT & PATTERN_MASK, counts)
    decisions: np.ndarray = (patterns >> np.minimum(shifts, 7) & 1).astype(bool)
    return decisions


def _too_short() -> InvalidInputError:
    return InvalidInputError("the payload ends before the last level")
