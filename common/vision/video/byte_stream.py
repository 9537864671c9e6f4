"""NAL units of an Annex B byte stream, and the bits of their headers (H.264 and H.265, annex B)."""

from __future__ import annotations

from typing import List, Tuple

from common.domain.errors import InvalidInputError

MAX_NAL_UNITS = 1024
"""Of one access unit. H.265 allows 600 slices, and cameras make up to some tens."""

_START = b"\0\0\1"
# The longest number in a header has 32 bits, and so many zeros in front.
_MOST_ZEROS = 32


class DamagedHeaderError(InvalidInputError):
    """A header ends too soon, or holds what none can hold."""


def below(value: int, limit: int) -> int:
    """A number of a header that has to be below a limit.

    Raises:
        DamagedHeaderError: it is not.
    """
    if value >= limit:
        raise DamagedHeaderError(
            f"a header of the access unit holds {value}, where {limit - 1} is the most"
        )
    return value


def nal_units(data: bytes) -> List[Tuple[int, int]]:
    """Where the NAL units of a byte stream are: start and end of each, without start codes.

    Raises:
        InvalidInputError: it does not begin with a start code, or has far too many.
    """
    first = data.find(_START)
    if first < 0 or data.count(0, 0, first) != first:
        raise InvalidInputError(_not_annex_b(data))
    units: List[Tuple[int, int]] = []
    following = first
    # Empty ones count as well: looking for each takes time.
    for _ in range(MAX_NAL_UNITS):
        start = following + len(_START)
        following = data.find(_START, start)
        end = _without_zeros(data, start, len(data) if following < 0 else following)
        if end > start:
            units.append((start, end))
        if following < 0:
            return units
    raise InvalidInputError(f"the access unit has more NAL units than the limit of {MAX_NAL_UNITS}")


def _without_zeros(data: bytes, start: int, end: int) -> int:
    """The end of a NAL unit: zeros behind it belong to the byte stream."""
    for size in (16, end - start):
        tail = data[max(start, end - size) : end]
        kept = len(tail.rstrip(b"\0"))
        if kept:
            return end - len(tail) + kept
    return start


def _not_annex_b(data: bytes) -> str:
    words = "the access unit is no Annex B byte stream: it does not begin with a start code"
    if data.startswith(b"\xff\xd8"):
        return f"{words}, but like a JPEG; send pictures as `encoded`, in a stream without `video`"
    if len(data) > 4 and 0 < int.from_bytes(data[:4], "big") <= len(data) - 4:
        return f"{words}, but like MP4, with a length; convert it by FFmpeg's *_mp4toannexb"
    return words


class Bits:
    """Reads a NAL unit's payload bit by bit, from behind its header."""

    def __init__(self, payload: bytes) -> None:
        """Read `payload`, whose bytes of emulation prevention are left out."""
        data = payload.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """An unsigned number of so many bits.

        Raises:
            DamagedHeaderError: there are fewer.
        """
        if count > self._left:
            raise DamagedHeaderError("a header of the access unit ends too soon")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def flag(self) -> bool:
        """One bit.

        Raises:
            DamagedHeaderError: there is none.
        """
        return bool(self.take(1))

    def unsigned(self) -> int:
        """An Exp-Golomb number, `ue(v)`.

        Raises:
            DamagedHeaderError: the payload ends before, or the number is too long.
        """
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _MOST_ZEROS:
                raise DamagedHeaderError("a header of the access unit holds a number too long")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """A signed Exp-Golomb number, `se(v)`.

        Raises:
            DamagedHeaderError: as for `unsigned`.
        """
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def skip(self, count: int) -> None:
        """Leave so many bits out.

        Raises:
            DamagedHeaderError: there are fewer.
        """
        self.take(count)
