"""The latent codecs: levels of a bottleneck's latents as bytes, alone or given a reference."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import numpy as np

from common.bundle import LatentRate
from common.codec.latent_decisions import DecisionReader, Decisions, DecisionWriter
from common.codec.latent_levels import (
    CodedLevels,
    check_shape,
    largest_level,
    latents_of,
    levels_of,
)
from common.codec.latent_order import Question, key_levels, next_levels
from common.codec.latent_tables import RateTables
from common.domain.errors import InvalidInputError, ReferenceMissingError

MAX_LEVELS = 1 << 22
"""The most levels of a frame; a payload of a few bytes can name any shape."""
# A level takes at most 40 decisions (3 of its own, 6 and 16 of its rest, which has 15 bits), and a
# decision at most 11 bits. Beside them, a code's last word may be needed in part only.
_MOST_BYTES_A_LEVEL = 55
_MOST_BYTES_BESIDE = 32
_GIVEN_REFERENCE = 0x80
# Where so many of a frame's levels changed (one in four), it may be shorter as a key frame.
_MUCH_CHANGED = 4


class LatentCoder:
    """Codes the frames of one rate. It keeps no state, and any number of threads may use it."""

    def __init__(self, rate: LatentRate, tables: RateTables) -> None:
        """Prepare to code.

        Args:
            rate: how finely latents are quantised.
            tables: of the same rate, from the same bundle.
        """
        self._rate = rate
        self._channels = len(tables["key_some"]["channel"])
        self._tables = {
            kind: [np.array(entries, np.int32) for entries in of_kind.values()]
            for kind, of_kind in tables.items()
        }

    def levels(self, latents: np.ndarray, reference: Optional[CodedLevels] = None) -> CodedLevels:
        """Quantise the latents of one frame, which the reference decides in part.

        Args:
            latents: float32 [1,channels,rows,columns] with integer values, from the encoder.
            reference: the frame that this one will be coded given; None for a key frame.

        Raises:
            InvalidInputError: a latent is no number, or the shape is not the reference's.
        """
        return levels_of(self._rate, latents, reference)

    def encode(self, coded: CodedLevels, reference: Optional[CodedLevels] = None) -> bytes:
        """Code what `levels` made of a frame, given the same reference.

        Raises:
            InvalidInputError: the shape is not the reference's, or not one of these tables.
        """
        shape = coded.levels.shape
        self._check(shape)
        levels = coded.levels.astype(np.int32)
        if reference is None:
            return b"\0" + self._written(levels, None)
        check_shape(reference, shape)
        best = bytes([_GIVEN_REFERENCE | reference.check]) + self._written(levels, reference)
        if _MUCH_CHANGED * np.count_nonzero(coded.change) > levels.size:
            alone = b"\0" + self._written(levels, None)
            best = min(best, alone, key=len)
        return best

    def decode(
        self,
        data: bytes,
        shape: Tuple[int, int, int],
        reference: Optional[CodedLevels] = None,
    ) -> CodedLevels:
        """Restore what was given to `encode`.

        Args:
            data: of `encode`.
            shape: of the levels: channels, rows, columns.
            reference: the one that was given to `encode`, which may have found the frame to be
                shorter alone; None for a key frame.

        Raises:
            ReferenceMissingError: the frame was coded given another reference.
            InvalidInputError: the payload does not hold levels of this shape.
        """
        self._check(shape)
        if reference is not None:
            check_shape(reference, shape)
        if not data:
            raise InvalidInputError("the payload of latents has no bytes")
        # Before anything is made of it, which would take a multiple of its memory.
        most_bytes = _MOST_BYTES_A_LEVEL * shape[0] * shape[1] * shape[2] + _MOST_BYTES_BESIDE
        if len(data) > most_bytes:
            raise InvalidInputError(
                f"{len(data)} bytes are no payload of levels of shape {shape}, which take at most "
                f"{most_bytes}"
            )
        given = None
        if data[0]:
            if not data[0] & _GIVEN_REFERENCE:
                raise InvalidInputError(f"a payload of latents cannot begin with {data[0]}")
            if reference is None or data[0] & 0x7F != reference.check:
                raise ReferenceMissingError("the frame was coded given another reference")
            given = reference
        reader = DecisionReader(data[1:])
        levels = self._answered(_Answers(self._tables, reader), shape, given, None)
        reader.finish()
        largest = largest_level(self._rate)
        if levels.size and (levels.min() < -largest or levels.max() > largest):
            raise InvalidInputError(f"a level is beyond {largest}")
        return CodedLevels.after(reference, levels.astype(np.int16))

    def latents(self, coded: CodedLevels) -> np.ndarray:
        """The latents for the decoder: float32 [1,channels,rows,columns], level x step, exact."""
        return latents_of(self._rate, coded.levels)

    def _check(self, shape: Tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[0] != self._channels:
            raise InvalidInputError(
                f"levels of shape {shape} are not [channels,rows,columns] of "
                f"{self._channels} channels"
            )
        if shape[0] * shape[1] * shape[2] > MAX_LEVELS:
            raise InvalidInputError(f"levels of shape {shape} are more than {MAX_LEVELS}")

    def _written(self, levels: np.ndarray, reference: Optional[CodedLevels]) -> bytes:
        writer = DecisionWriter()
        self._answered(_Answers(self._tables, writer), levels.shape, reference, levels)
        return writer.to_bytes()

    def _answered(
        self,
        answers: _Answers,
        shape: Tuple[int, ...],
        reference: Optional[CodedLevels],
        known: Optional[np.ndarray],
    ) -> np.ndarray:
        channels, rows, columns = shape
        if not rows * columns:
            return np.zeros(shape, np.int32)
        if reference is None:
            return key_levels(answers, (channels, rows, columns), known)
        return next_levels(answers, reference, known)


class _Answers:
    """Answers questions by decisions whose odds the tables tell."""

    def __init__(self, tables: Dict[str, List[np.ndarray]], decisions: Decisions) -> None:
        self._tables = tables
        self._decisions = decisions

    def ask(self, *questions: Question) -> List[np.ndarray]:
        odds = [self._odds(question) for question in questions]
        known = [question.answers.ravel() for question in questions if question.answers is not None]
        if len(questions) == 1:
            return [self._decisions.decide(odds[0], known[0] if known else None)]
        answers = np.concatenate(known) if known else None
        decided = self._decisions.decide(np.concatenate(odds), answers)
        return np.split(decided, np.cumsum([len(each) for each in odds])[:-1])

    def plain(self, bits: Optional[np.ndarray], count: int) -> np.ndarray:
        return self._decisions.decide(np.zeros(count, np.int32), bits)

    def _odds(self, question: Question) -> np.ndarray:
        tables = self._tables[question.kind]
        odds = tables[0].take(question.entries[0])
        for table, entry in zip(tables[1:], question.entries[1:]):
            odds = odds + table.take(entry)
        return odds.ravel()
