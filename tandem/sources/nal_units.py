"""The NAL units of an Annex B byte stream, as far as their kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from itertools import zip_longest
from typing import NamedTuple

from common.domain.video import VideoCodec

_START_CODE = re.compile(rb"\x00\x00\x01")


class UnitKind(Enum):
    """What a NAL unit holds, as far as it matters here."""

    PARAMETER_SET = "parameter set"
    DELIMITER = "delimiter"
    OTHER = "other"


# ITU-T H.264, table 7-1: SPS, PPS, access unit delimiter.
_H264 = {7: UnitKind.PARAMETER_SET, 8: UnitKind.PARAMETER_SET, 9: UnitKind.DELIMITER}
# ITU-T H.265, table 7-1: VPS, SPS, PPS, access unit delimiter.
_H265 = {number: UnitKind.PARAMETER_SET for number in (32, 33, 34)} | {35: UnitKind.DELIMITER}


class NalUnit(NamedTuple):
    """Where one begins, its start code included, and what it holds.

    Attributes:
        start: offset of its start code.
        number: `nal_unit_type`.
        kind: what that means.
    """

    start: int
    number: int
    kind: UnitKind


def nal_units(data: bytes, codec: VideoCodec) -> Iterator[NalUnit]:
    """All of them, in order."""
    for match in _START_CODE.finditer(data):
        if match.end() == len(data):
            return
        head = data[match.end()]
        number = head & 0x1F if codec is VideoCodec.H264 else head >> 1 & 0x3F
        kinds = _H264 if codec is VideoCodec.H264 else _H265
        # A start code of four bytes belongs to its unit as a whole.
        start = match.start() - (data[match.start() - 1 : match.start()] == b"\0")
        yield NalUnit(start, number, kinds.get(number, UnitKind.OTHER))


def parameter_sets(data: bytes, codec: VideoCodec) -> dict[int, bytes]:
    """The parameter sets in a byte stream, start codes included, joined by their numbers."""
    units = [*nal_units(data, codec)]
    found: dict[int, bytes] = {}
    for unit, after in zip_longest(units, units[1:]):
        end = len(data) if after is None else after.start
        if unit.kind is UnitKind.PARAMETER_SET:
            found[unit.number] = found.get(unit.number, b"") + data[unit.start : end]
    return found


def with_sets_before(data: bytes, sets: bytes, codec: VideoCodec) -> bytes:
    """An access unit with parameter sets in front of it; a delimiter stays the first."""
    others = (unit for unit in nal_units(data, codec) if unit.kind is not UnitKind.DELIMITER)
    first = next(others, None)
    at = 0 if first is None else first.start
    return data[:at] + sets + data[at:]
