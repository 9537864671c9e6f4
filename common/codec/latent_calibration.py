"""Makes the tables of the entropy coder from latents like those that it will see."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence

import numpy as np

from common.bundle import Bottleneck, LatentRate, RateMeasurement
from common.codec.latent import LatentCoder
from common.codec.latent_codes import LARGEST_ODDS, ODDS_UNIT
from common.codec.latent_contexts import KINDS
from common.codec.latent_levels import CodedLevels, levels_of
from common.codec.latent_order import Question, key_levels, next_levels
from common.codec.latent_tables import LatentTables, RateTables
from common.domain.codec import Codec
from common.domain.errors import InvalidInputError

# Before anything is counted, an entry is taken to be 0 with a variance of 2: one with few decisions
# says little.
_PRECISION = 0.5
# Every sequence stands still in the end, as cameras do: tables made from nothing but movement would
# spend as much on a picture that stays as on one that moves.
_STILL_FRAMES = 2
_SWEEPS = 12
_LARGEST_STEP = 2.0


def calibrate_latents(bottleneck: Bottleneck, sequences: Sequence[np.ndarray]) -> LatentTables:
    """Make tables for every rate of a bottleneck.

    Args:
        bottleneck: its channels and rates.
        sequences: float32 [frames,channels,rows,columns] with integer values, each of frames that
            follow each other; a single frame is a sequence of one. Every frame counts as a key
            frame, and all but the first of each as one that is coded given the one before.

    Raises:
        InvalidInputError: the latents are no numbers or of other channels, or no frame follows
            another.
    """
    if not any(len(sequence) > 1 for sequence in sequences):
        raise InvalidInputError(
            "latents are calibrated on frames that follow each other: give a video"
        )
    for sequence in sequences:
        if sequence.ndim != 4 or sequence.shape[1] != bottleneck.channels:
            raise InvalidInputError(
                f"latents of shape {sequence.shape} are not those of {bottleneck.channels} channels"
            )
    return LatentTables(
        channels=bottleneck.channels,
        rates={
            codec: rate_tables(bottleneck.channels, rate, sequences)
            for codec, rate in bottleneck.rates.items()
        },
    )


def measure_latents(
    bottleneck: Bottleneck,
    tables: LatentTables,
    sequences: Sequence[np.ndarray],
) -> Bottleneck:
    """Code sequences, and note what each rate costs.

    What a rate keeps, its AP, stays as it was noted before: other tables change no level.

    Args:
        bottleneck: its channels and rates.
        tables: of the same rates.
        sequences: as for `calibrate_latents`, best others than those.

    Returns:
        The bottleneck with what was measured in its rates.
    """
    rates = {}
    for codec, rate in bottleneck.rates.items():
        coder = LatentCoder(rate, tables.rates[codec])
        alone: List[int] = []
        given: List[int] = []
        for sequence in sequences:
            reference: Optional[CodedLevels] = None
            for frame in sequence:
                alone.append(len(coder.encode(coder.levels(frame[None]))))
                coded = coder.levels(frame[None], reference)
                if reference is not None:
                    given.append(len(coder.encode(coded, reference)))
                reference = coded
        measured = RateMeasurement(
            average_precision=rate.measured.average_precision if rate.measured else None,
            bytes_per_frame=round(float(np.mean(given)), 1),
            bytes_per_key_frame=round(float(np.mean(alone)), 1),
        )
        rates[codec] = rate.model_copy(update={"measured": measured})
    return bottleneck.model_copy(update={"rates": rates})


def with_average_precision(
    bottleneck: Bottleneck, average_precision: Mapping[Codec, float]
) -> Bottleneck:
    """Note what rates keep.

    Args:
        bottleneck: whose rates have been measured, see `measure_latents`.
        average_precision: of rates, 0 to 1; what is noted of others stays.

    Returns:
        The bottleneck with the figures, rounded to four digits.
    """
    rates = dict(bottleneck.rates)
    for codec, precision in average_precision.items():
        rate = rates[codec.value]
        if rate.measured is None:
            raise ValueError(f"the bytes of {codec.value} have not been measured")
        noted = rate.measured.model_copy(update={"average_precision": round(precision, 4)})
        rates[codec.value] = rate.model_copy(update={"measured": noted})
    return bottleneck.model_copy(update={"rates": rates})


def rate_tables(channels: int, rate: LatentRate, sequences: Sequence[np.ndarray]) -> RateTables:
    """The tables of one rate; see `calibrate_latents`."""
    record = _Record()
    for sequence in sequences:
        _watch(record, rate, sequence)
    return {
        kind: {
            name: tuple(int(entry) for entry in entries)
            for name, entries in zip(tables, record.fitted(kind, channels))
        }
        for kind, tables in KINDS.items()
    }


def _watch(record: _Record, rate: LatentRate, sequence: np.ndarray) -> None:
    still = _STILL_FRAMES if len(sequence) > 1 else 0
    reference: Optional[CodedLevels] = None
    for index, frame in enumerate([*sequence, *[sequence[-1]] * still]):
        coded = levels_of(rate, frame[None], reference)
        if reference is not None:
            next_levels(record, reference, coded.levels.astype(np.int32))
        if index < len(sequence):
            alone = levels_of(rate, frame[None], None).levels
            key_levels(record, alone.shape, alone.astype(np.int32))
        reference = coded


class _Record:
    """Answers truly, and remembers what was asked."""

    def __init__(self) -> None:
        self._entries: Dict[str, List[np.ndarray]] = {kind: [] for kind in KINDS}

    def ask(self, *questions: Question) -> List[np.ndarray]:
        for question in questions:
            columns = np.broadcast_arrays(*question.entries, _known(question.answers))
            stacked = np.stack([column.ravel() for column in columns])
            self._entries[question.kind].append(stacked.astype(np.uint16))
        return [_known(question.answers).ravel() for question in questions]

    def plain(self, bits: Optional[np.ndarray], count: int) -> np.ndarray:
        return _known(bits)

    def fitted(self, kind: str, channels: int) -> List[np.ndarray]:
        """The tables of one kind: additive logistic regression on all that was asked."""
        sizes = [size.entries(channels) for size in KINDS[kind].values()]
        if not self._entries[kind]:
            return [np.zeros(size, np.int64) for size in sizes]
        *entries, answers = np.concatenate(self._entries[kind], axis=1).astype(np.intp)
        places = np.ravel_multi_index(tuple(entries), tuple(sizes))
        distinct, where = np.unique(places, return_inverse=True)
        total = np.bincount(where)
        yes = np.bincount(where, answers)
        return _fit([*np.unravel_index(distinct, tuple(sizes))], sizes, total, yes)


def _known(answers: Optional[np.ndarray]) -> np.ndarray:
    if answers is None:
        raise ValueError("only what is known can be recorded")
    return answers


def _fit(
    entries: Sequence[np.ndarray], sizes: Sequence[int], total: np.ndarray, yes: np.ndarray
) -> List[np.ndarray]:
    """Tables whose entries' sums are log-odds, by Newton's method on one table after the other.

    Args:
        entries: of each table, the entry of each context [n].
        sizes: how many entries each table has.
        total: how many decisions each context had [n].
        yes: how many of them were yes [n].
    """
    mean = np.log((yes.sum() + 1) / (total.sum() - yes.sum() + 1))
    tables = [np.zeros(size) for size in sizes]
    tables[0][:] = mean
    expected = [mean] + [0.0] * (len(sizes) - 1)
    odds = np.full(len(total), mean)
    for _ in range(_SWEEPS):
        for index, entry in enumerate(entries):
            chance = 1 / (1 + np.exp(-odds))
            gradient = np.bincount(entry, yes - total * chance, sizes[index])
            curvature = np.bincount(entry, total * chance * (1 - chance), sizes[index])
            pull = _PRECISION * (tables[index] - expected[index])
            step = (gradient - pull) / (curvature + _PRECISION)
            step = np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
            tables[index] += step
            odds += step[entry]
    limit = 2 * LARGEST_ODDS
    return [np.clip(np.rint(table * ODDS_UNIT), -limit, limit).astype(np.int64) for table in tables]
