"""Whether each picture follows the one before: none is missing, none is shown before another."""

from __future__ import annotations

from typing import Optional

from common.domain.errors import InvalidInputError
from common.vision.video.parameters import (
    PictureKind,
    SequenceParameters,
    SliceStart,
)


class OutOfOrderError(InvalidInputError):
    """A picture is shown before one that was decoded before it."""


class PictureOrder:
    """Follows the pictures of one sequence in the order of decoding."""

    def __init__(self) -> None:
        """Begin with the next picture."""
        # H.264's number of the latest picture that others may refer to.
        self._number: Optional[int] = None
        # The order of the picture that the next one's is told relative to, and of the latest shown.
        self._anchor = 0
        self._latest: Optional[int] = None

    def follow(self, start: SliceStart, sequence: SequenceParameters) -> None:
        """Take note of the next picture.

        Args:
            start: of its first slice.
            sequence: its parameter set.

        Raises:
            InvalidInputError: a picture is missing before it, or it comes twice.
            OutOfOrderError: it is shown before an earlier one.
        """
        if start.kind is PictureKind.RESTART:
            self._number, self._latest, self._anchor = None, None, 0
        if sequence.number_bits:
            self._check_number(start, sequence)
        if sequence.order_bits is not None and start.order is not None:
            self._check_order(start.order, sequence.order_bits, start.counts_for_order)

    def _check_number(self, start: SliceStart, sequence: SequenceParameters) -> None:
        """Each frame's number is one more than that of the latest that others may refer to."""
        numbers = 1 << sequence.number_bits
        expected = None if self._number is None else (self._number + 1) % numbers
        has_gap = expected is not None and start.number != expected
        if has_gap and not sequence.numbers_have_gaps:
            raise InvalidInputError(
                "an access unit is missing before this one, or this one came before: "
                f"its frame_num is {start.number}, where {expected} should follow"
            )
        if start.is_reference:
            self._number = start.number

    def _check_order(self, low_bits: int, bits: int, counts: bool) -> None:
        """The order's low bits are told; the picture is the nearest one to the anchor."""
        span = 1 << bits
        order = self._anchor - self._anchor % span + low_bits
        if self._latest is None:
            order = low_bits
        elif self._anchor - order >= span // 2:
            order += span
        elif order - self._anchor > span // 2:
            order -= span
        if self._latest is not None and order <= self._latest:
            raise OutOfOrderError("the picture is shown before an earlier one")
        self._latest = order
        if counts:
            self._anchor = order
