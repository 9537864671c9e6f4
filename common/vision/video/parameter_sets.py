"""The parameter sets of one stream of video: kept by their ids, and given to a new decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from common.domain.errors import InvalidInputError
from common.vision.video.parameters import PictureParameters, SequenceParameters, SliceStart
from common.vision.video.syntax import Role, Syntax

MAX_KEPT_BYTES = 64 << 10
"""Of all parameter sets of a stream; those of honest video have some hundred bytes."""

START_CODE = b"\0\0\0\1"


@dataclass(frozen=True)
class Sequence:
    """A sequence parameter set.

    Attributes:
        unit: its NAL unit.
        parameters: what it says.
    """

    unit: bytes
    parameters: SequenceParameters


class ParameterSets:
    """Keeps the latest parameter set of each kind and id."""

    def __init__(self, syntax: Syntax) -> None:
        """Begin without any, of the codec with this syntax."""
        self._syntax = syntax
        self._units: Dict[Tuple[Role, int], bytes] = {}
        self._sequences: Dict[int, SequenceParameters] = {}
        self._pictures: Dict[int, PictureParameters] = {}

    def add(self, role: Role, unit: bytes) -> None:
        """Take a parameter set over; it takes the place of an earlier one with its id.

        Raises:
            InvalidInputError: it is damaged, or there are too many.
        """
        if role is Role.SEQUENCE_PARAMETERS:
            set_id, sequence = self._syntax.read_sequence_parameters(unit)
        elif role is Role.PICTURE_PARAMETERS:
            set_id, picture = self._syntax.read_picture_parameters(unit)
        else:
            # Of these nothing has to be known; the id of H.265's is in front.
            set_id = unit[2] >> 4 if len(unit) > 2 else 0
        former = self._units.get((role, set_id), b"")
        kept_bytes = sum(len(each) for each in self._units.values()) - len(former) + len(unit)
        if kept_bytes > MAX_KEPT_BYTES:
            raise InvalidInputError(
                f"the video's parameter sets have more bytes than the limit of {MAX_KEPT_BYTES}"
            )
        self._units[role, set_id] = unit
        if role is Role.SEQUENCE_PARAMETERS:
            self._sequences[set_id] = sequence
        elif role is Role.PICTURE_PARAMETERS:
            self._pictures[set_id] = picture

    def of_slice(self, unit: bytes) -> Optional[Tuple[Sequence, SliceStart]]:
        """The beginning of a slice and its sequence parameter set; None if a set is missing.

        Raises:
            InvalidInputError: the slice is damaged.
        """
        picture = self._pictures.get(self._syntax.picture_parameters_id(unit))
        if picture is None:
            return None
        sequence_id = picture.sequence_parameters_id
        if sequence_id not in self._sequences:
            return None
        parameters = self._sequences[sequence_id]
        sequence = Sequence(self._units[Role.SEQUENCE_PARAMETERS, sequence_id], parameters)
        return sequence, self._syntax.read_slice(unit, picture, parameters)

    def byte_stream(self) -> bytes:
        """All sets, with start codes, in the order in which a decoder needs them."""
        order = list(Role)
        keys = sorted(self._units, key=lambda key: (order.index(key[0]), key[1]))
        return b"".join(START_CODE + self._units[key] for key in keys)
