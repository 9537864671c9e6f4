"""The codes that decisions of given odds are written in: fixed by the format, for every bundle.

A decision is yes or no, and a table says how likely yes is. Decisions of like odds share one of
twelve codes, each of which turns a run or a block of them into a few bits (probability interval
partitioning: Marpe, Schwarz and Wiegand, "Entropy coding in video compression using probability
interval partitioning", PCS 2010). In a code, 1 stands for the less probable answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import List, Tuple

import numpy as np

PLAIN = 0
"""The code of decisions that are nearly even: each is a bit."""
# Blocks of a few decisions, the first one the highest bit, and the length of each one's word in
# hexadecimal: Huffman's for answers that have the probability 0.38 and 0.24.
_BLOCK_LENGTHS = {
    1: "34454556455656674556566656665667",
    2: "244646684668688a466868896889899c466868796779799b6779799b799b9bbc",
}
BLOCK_SIZES = {1: 5, 2: 6}
"""Code -> how many decisions are a block."""
RUN_BITS = {code: code - 1 for code in range(3, 12)}
"""Code -> k: the word 0 stands for 2^k zeros, and 1 with k bits for that many zeros and a one."""
CODES = 12
WINDOW_BITS = 12
"""The longest word of any code."""
ODDS_UNIT = 16
"""Log-odds, which are natural logarithms, are counted in sixteenths."""
# The least log-odds, in sixteenths and whatever their sign, of the codes 1 to 11.
_LEAST_ODDS = (6, 16, 25, 33, 45, 56, 67, 79, 90, 100, 112)
LARGEST_ODDS = 127
"""Log-odds beyond it count as it."""

# An entry of a reading table: the length of the word that a window begins with, its decisions as a
# number, and how many they are.
LENGTH_MASK = 15
PATTERN_SHIFT = 4
PATTERN_MASK = 63
COUNT_SHIFT = 10


@dataclass(frozen=True)
class BlockCode:
    """The words of all blocks of one code, by the blocks' decisions read as a number."""

    lengths: np.ndarray
    words: np.ndarray


@lru_cache(maxsize=None)
def odds_to_codes() -> np.ndarray:
    """uint8 [2 * LARGEST_ODDS + 1], by log-odds: the code, and 16 more if yes is more probable."""
    odds = np.arange(-LARGEST_ODDS, LARGEST_ODDS + 1)
    codes = np.searchsorted(_LEAST_ODDS, np.abs(odds), side="right")
    return (codes + 16 * (odds > 0)).astype(np.uint8)


@lru_cache(maxsize=None)
def block_code(code: int) -> BlockCode:
    """The canonical prefix code of the lengths: shorter words first, then by decisions."""
    lengths = np.array([int(digit, 16) for digit in _BLOCK_LENGTHS[code]])
    words = np.zeros(len(lengths), np.int64)
    word = length = 0
    for block in np.argsort(lengths, kind="stable"):
        word <<= int(lengths[block]) - length
        length = int(lengths[block])
        words[block] = word
        word += 1
    return BlockCode(lengths, words)


@lru_cache(maxsize=None)
def reading_tables() -> Tuple[List[int], ...]:
    """For each code, by the next `WINDOW_BITS` bits: length, decisions and their number.

    The code `PLAIN` has no table.
    """
    blocks = tuple(_block_table(code, size) for code, size in BLOCK_SIZES.items())
    return ([], *blocks, *(_run_table(bits) for bits in RUN_BITS.values()))


def _block_table(code: int, size: int) -> List[int]:
    table = np.zeros(1 << WINDOW_BITS, np.int64)
    book = block_code(code)
    for block, (length, word) in enumerate(zip(book.lengths.tolist(), book.words.tolist())):
        free = WINDOW_BITS - length
        entry = length | block << PATTERN_SHIFT | size << COUNT_SHIFT
        table[word << free : (word + 1) << free] = entry
    return [int(entry) for entry in table]


def _run_table(bits: int) -> List[int]:
    windows = np.arange(1 << WINDOW_BITS)
    zeros = windows >> (WINDOW_BITS - 1 - bits) & ((1 << bits) - 1)
    ended = (bits + 1) | 1 << PATTERN_SHIFT | (zeros + 1) << COUNT_SHIFT
    whole = 1 | 1 << (bits + COUNT_SHIFT)
    return [int(entry) for entry in np.where(windows >> (WINDOW_BITS - 1), ended, whole)]
