"""The latent codecs: levels of a bottleneck's latents as bytes, alone or given a reference."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np

from common.bundle import LatentRate
from common.codec.base import checked_count
from common.codec.latent_levels import (
    CodedLevels,
    check_shape,
    largest_level,
    latents_of,
    levels_of,
)
from common.codec.latent_tables import RateTables
from common.domain.errors import InvalidInputError, ReferenceMissingError

_PREDICTED = 0x80


class LatentCoder:
    """Codes the frames of one rate. It keeps no state, and any number of threads may use it."""

    def __init__(self, rate: LatentRate, tables: RateTables) -> None:
        """Prepare to code.

        Args:
            rate: how finely latents are quantised.
            tables: of the same rate, from the same bundle.
        """
        self._rate = rate

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
            InvalidInputError: the shape is not the reference's.
        """
        values = coded.levels.astype(np.int32)
        header = 0
        if reference is not None:
            check_shape(reference, values.shape)
            values -= reference.levels
            header = _PREDICTED | reference.check
        bits = "".join(_golomb(2 * abs(value) - (value > 0)) for value in values.ravel().tolist())
        bits += "0" * (-len(bits) % 8)
        return bytes([header]) + int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]

    def decode(
        self,
        data: bytes,
        shape: Tuple[int, int, int],
        reference: Optional[CodedLevels] = None,
    ) -> CodedLevels:
        """Restore what was given to `encode`, bit by bit.

        Args:
            data: of `encode`.
            shape: of the levels: channels, rows, columns.
            reference: the frame that this one was coded given; None for a key frame.

        Raises:
            ReferenceMissingError: the frame was coded given another reference.
            InvalidInputError: the payload does not hold levels of this shape.
        """
        count = checked_count(shape)
        if not data:
            raise InvalidInputError("the payload of latents has no bytes")
        expected = 0 if reference is None else _PREDICTED | reference.check
        if data[0] != expected:
            if data[0] & _PREDICTED:
                raise ReferenceMissingError("the frame was coded given another reference")
            raise InvalidInputError(f"a payload of latents cannot begin with {data[0]}")
        bits = bin(int.from_bytes(b"\1" + data[1:], "big"))[3:]
        values: List[int] = []
        place = 0
        while len(values) < count:
            end = bits.find("1", place)
            width = end - place
            if end < 0 or width > 17 or end + width >= len(bits):
                raise InvalidInputError(f"the payload's {len(data)} bytes hold too few levels")
            code = int(bits[end : end + width + 1], 2) - 1
            values.append(code // 2 + 1 if code & 1 else -(code // 2))
            place = end + width + 1
        if len(bits) - place > 7 or "1" in bits[place:]:
            raise InvalidInputError(f"the payload's {len(data)} bytes go on after the levels")
        levels = np.array(values, np.int32).reshape(shape)
        if reference is not None:
            check_shape(reference, shape)
            levels = levels + reference.levels
        if count and np.abs(levels).max() > largest_level(self._rate):
            raise InvalidInputError("a level is beyond the largest latent")
        return CodedLevels.after(reference, levels.astype(np.int16))

    def latents(self, coded: CodedLevels) -> np.ndarray:
        """The latents for the decoder: float32 [1,channels,rows,columns], level x step, exact."""
        return latents_of(self._rate, coded.levels)


def _golomb(value: int) -> str:
    binary = bin(value + 1)[2:]
    return "0" * (len(binary) - 1) + binary
