"""The order in which the levels of a frame are decided.

One description serves the writer, the reader and the calibration: each of them answers the
questions that `key_levels` and `next_levels` ask, in the order of the format (docs/codecs.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Protocol, Sequence, Tuple

import numpy as np

from common.codec import latent_contexts as contexts
from common.codec.latent_contexts import LONGEST_REST, STEPS, Grid, grid_of
from common.codec.latent_levels import CodedLevels
from common.domain.errors import InvalidInputError

_LARGEST_CONTEXT = 127


@dataclass(frozen=True)
class Question:
    """Many decisions of one kind.

    Attributes:
        kind: a key of `latent_contexts.KINDS`.
        entries: of each table of the kind, which entry counts; integers that broadcast together.
        answers: bool of the broadcast shape when writing; None when reading.
    """

    kind: str
    entries: Sequence[np.ndarray]
    answers: Optional[np.ndarray]


class Answers(Protocol):
    """Who answers questions: a writer, a reader or a calibration."""

    def ask(self, *questions: Question) -> List[np.ndarray]:
        """Take one step of decisions, of one or several kinds; the answers, flat, of each."""
        ...

    def plain(self, bits: Optional[np.ndarray], count: int) -> np.ndarray:
        """Take one step of so many even decisions."""
        ...


def key_levels(
    answers: Answers, shape: Tuple[int, int, int], known: Optional[np.ndarray]
) -> np.ndarray:
    """Decide all levels of a key frame.

    Args:
        answers: who knows them.
        shape: channels, rows, columns; none of them is 0.
        known: the levels when writing, int32 of this shape; None when reading.

    Returns:
        The levels, int32.

    Raises:
        InvalidInputError: when reading, the bits do not hold such levels.
    """
    grid = grid_of(shape)
    channels = shape[0]
    levels = np.zeros((channels, shape[1] * shape[2]), np.int32)
    given = None if known is None else known.reshape(channels, -1)
    for index, cells in enumerate(grid.parts):
        if not len(cells):
            continue
        agree = signs = np.zeros((channels, len(cells)), np.intp)
        if index:
            agree, signs = contexts.neighbours_signs(levels.reshape(shape), cells)
        part = None if given is None else given[:, cells]
        levels[:, cells] = _key_part(answers, grid, agree, signs, part)
    flat = levels.reshape(-1)
    at = np.flatnonzero(np.abs(flat) == 2)
    sizes = None if known is None else np.abs(known.reshape(-1)[at]) - 2
    rest = _rest(answers, "key", grid.channel.reshape(-1)[at], sizes)
    flat[at] += np.sign(flat[at]) * rest
    return levels.reshape(shape)


def _key_part(
    answers: Answers,
    grid: Grid,
    agree: np.ndarray,
    signs: np.ndarray,
    given: Optional[np.ndarray],
) -> np.ndarray:
    """The levels of one part between -2 and 2, int32 [channels,cells]."""
    channels, cells = agree.shape
    some = np.zeros((channels, cells), bool)
    for group, here in enumerate(grid.groups):
        if here.start == here.stop:
            continue
        count = some[: here.start].sum(axis=0)
        entries = [
            np.arange(here.start, here.stop)[:, None],
            agree[here],
            contexts.cell_filled(count, here.start, group),
        ]
        wanted = None if given is None else given[here] != 0
        answered = answers.ask(Question("key_some", entries, wanted))[0]
        some[here] = answered.reshape(-1, cells)
    channel, cell = np.nonzero(some)
    full = contexts.filled(some.sum(axis=0), channels)
    sign = [channel, signs[channel, cell]]
    size = [channel, agree[channel, cell], full[cell]]
    values = None if given is None else given[channel, cell]
    positive, two = answers.ask(
        Question("key_positive", sign, None if values is None else values > 0),
        Question("key_two", size, None if values is None else np.abs(values) > 1),
    )
    levels = np.zeros((channels, cells), np.int32)
    levels[channel, cell] = np.where(positive, 1, -1) * (1 + two)
    return levels


def next_levels(
    answers: Answers, reference: CodedLevels, known: Optional[np.ndarray]
) -> np.ndarray:
    """Decide all levels of a frame that is coded given a reference; see `key_levels`."""
    shape = reference.levels.shape
    grid = grid_of(shape)
    before = reference.levels.astype(np.int32)
    differences = None if known is None else known - before
    wanted = None if differences is None else differences != 0
    changed = _changed(answers, grid, reference, wanted)
    at = np.flatnonzero(changed)
    channel = grid.channel.reshape(-1)[at]
    small = np.clip(before, -_LARGEST_CONTEXT, _LARGEST_CONTEXT)
    change = np.clip(reference.change, -_LARGEST_CONTEXT, _LARGEST_CONTEXT)
    curve, motion = contexts.curve_and_motion(small, change, at)
    level = small.reshape(-1)[at]
    directions = [
        channel * 7 + 3 + np.clip(level, -3, 3),
        curve,
        motion,
    ]
    counts = contexts.changed(changed.sum(axis=0), shape[0]).reshape(-1)
    sizes = [
        channel * 4 + np.minimum(np.abs(level), 3),
        counts[at % len(counts)],
    ]
    steps = None if differences is None else differences.reshape(-1)[at]
    up, two = answers.ask(
        Question("next_up", directions, None if steps is None else steps > 0),
        Question("next_two", sizes, None if steps is None else np.abs(steps) > 1),
    )
    step = 1 + two.astype(np.int32)
    far = np.flatnonzero(two)
    step[far] += _rest(
        answers, "next", channel[far], None if steps is None else np.abs(steps[far]) - 2
    )
    levels = before.reshape(-1)
    levels[at] += np.where(up, step, -step)
    return levels.reshape(shape)


def _changed(
    answers: Answers, grid: Grid, reference: CodedLevels, wanted: Optional[np.ndarray]
) -> np.ndarray:
    """Which levels are not those of the reference: bool [channels,rows,columns]."""
    channels, rows, columns = shape = reference.levels.shape
    before = reference.change != 0
    around_before = contexts.changed_before(before.sum(axis=0), channels)
    level = grid.channel * 4 + np.minimum(np.abs(reference.levels.astype(np.int32)), 3)
    changed = np.zeros(shape, bool)
    for group, here in enumerate(grid.groups):
        if here.start == here.stop:
            continue
        count = changed[: here.start].sum(axis=0)
        entries = [
            level[here],
            before[here].astype(np.intp),
            around_before,
            contexts.around_changed(count, here.start, group),
        ]
        part = None if wanted is None else wanted[here]
        answered = answers.ask(Question("next_changed", entries, part))[0]
        changed[here] = answered.reshape(-1, rows, columns)
    return changed


def _rest(
    answers: Answers, frame: str, channel: np.ndarray, sizes: Optional[np.ndarray]
) -> np.ndarray:
    """What magnitudes have beyond 2, int32 [n], counted up and then in bits."""
    rest = np.zeros(len(channel), np.int32)
    open_ = np.arange(len(channel))
    for step in range(STEPS):
        if not len(open_):
            return rest
        entries = [channel[open_], np.array([step])]
        wanted = None if sizes is None else sizes[open_] > step
        more = answers.ask(Question(f"{frame}_more", entries, wanted))[0]
        open_ = open_[more]
        rest[open_] += 1
    if len(open_):
        wanted = None if sizes is None else sizes[open_] - STEPS
        rest[open_] += _large(answers, frame, len(open_), wanted)
    return rest


def _large(answers: Answers, frame: str, count: int, known: Optional[np.ndarray]) -> np.ndarray:
    """Numbers from 0 on: how many bits their successors have after the first, and these bits."""
    widths = np.zeros(count, np.int32)
    exact = None
    if known is not None:
        exact = np.searchsorted(1 << np.arange(1, 31), known + 1, side="right")
    open_ = np.arange(count)
    for width in range(LONGEST_REST):
        entries = [np.full(len(open_), width)]
        wanted = None if exact is None else exact[open_] > width
        open_ = open_[answers.ask(Question(f"{frame}_longer", entries, wanted))[0]]
        widths[open_] += 1
        if not len(open_):
            break
    if len(open_):
        raise InvalidInputError("a level is beyond every limit")
    # The bits of each number, its highest one first.
    total = int(widths.sum())
    shifts = np.repeat(np.cumsum(widths), widths) - np.arange(1, total + 1)
    bits = None
    if known is not None:
        bits = (np.repeat(known + 1, widths) >> shifts & 1).astype(bool)
    read = answers.plain(bits, total)
    owners = np.repeat(np.arange(count), widths)
    values = np.bincount(owners, read.astype(np.int64) << shifts, count).astype(np.int64)
    return ((1 << widths.astype(np.int64)) + values - 1).astype(np.int32)
