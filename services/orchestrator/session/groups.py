"""The video of one session since its key frames, and what of it each decoder lacks; no I/O.

A frame of video can be decoded only after all those since the last key frame: its group. So the
session keeps the group for as long as a frame of it may have to be sent along another route, whose
decoder has to be brought to the frame by those before.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Protocol, Sequence

from common.domain.errors import InvalidInputError, ResourceExhaustedError, TandemError
from protos.tandem.v1 import detector_pb2

MEBIBYTE = 1 << 20


class Room(Protocol):
    """The memory that groups are kept in."""

    def try_keep(self, count: int) -> bool:
        """Take room for so many bytes; returns whether there was any."""
        ...

    def keep_less(self, count: int) -> None:
        """Give room for so many bytes back."""
        ...


class Lack(NamedTuple):
    """What has to be sent to a decoder before a frame.

    Attributes:
        frames: to be decoded only, in this order.
        data_bytes: their sizes, all together.
    """

    frames: Sequence[detector_pb2.Frame]
    data_bytes: int


NOTHING = Lack((), 0)


class Group:
    """The frames of a stream from a key frame to the last one before the next.

    Attributes:
        number: of this group in its stream, from 0.
        frames: of the group, those that have come so far.
        data_bytes: their sizes, all together.
        users: how many of them may have to be sent yet.
        closed: why the group takes no further frame; None while it does.
        failed: why none of its frames is sent any more; None while they are.
    """

    __slots__ = ("_ends_bytes", "closed", "data_bytes", "failed", "frames", "number", "users")

    def __init__(self, number: int) -> None:
        """Begin empty."""
        self.number = number
        self.frames: List[detector_pb2.Frame] = []
        self.data_bytes = 0
        self.users = 0
        self.closed: Optional[TandemError] = None
        self.failed: Optional[TandemError] = None
        # Of all frames up to and with each one.
        self._ends_bytes: List[int] = []

    def append(self, frame: detector_pb2.Frame, data_bytes: int) -> Place:
        """Add the next frame; its place."""
        self.frames.append(frame)
        self.data_bytes += data_bytes
        self._ends_bytes.append(self.data_bytes)
        return Place(self, len(self.frames) - 1)

    def part(self, start: int, end: int) -> Lack:
        """The frames from one offset to before another."""
        if start >= end:
            return NOTHING
        before_bytes = self._ends_bytes[start - 1] if start else 0
        return Lack(self.frames[start:end], self._ends_bytes[end - 1] - before_bytes)


class Place(NamedTuple):
    """A frame's place in the video of its stream.

    Attributes:
        group: that the frame is part of.
        offset: of the frame in its group, from 0.
    """

    group: Group
    offset: int

    @property
    def frame(self) -> detector_pb2.Frame:
        """The frame itself."""
        return self.group.frames[self.offset]

    @property
    def data_bytes(self) -> int:
        """Size of its access unit."""
        return self.group.part(self.offset, self.offset + 1).data_bytes


class KeptVideo:
    """Keeps what of a session's video may have to be sent again.

    That is the latest group, and each earlier one of which a frame has not been answered. A group
    whose frames are over the limit is kept no longer: the frames up to the next key frame are
    refused.
    """

    def __init__(self, most_group_bytes: int, room: Room) -> None:
        """Keep groups of up to `most_group_bytes`, in `room`."""
        self._most_bytes = most_group_bytes
        self._room = room
        self._latest: Optional[Group] = None
        self._groups = 0

    def add(self, frame: detector_pb2.Frame, data_bytes: int, *, key_frame: bool) -> Place:
        """Take in the next frame of the stream; it is in use until `release`.

        Args:
            frame: with one access unit.
            data_bytes: size of that.
            key_frame: whether decoding can start here.

        Raises:
            InvalidInputError: no key frame has come yet.
            ResourceExhaustedError: too much has come since the last one.
            TandemError: an earlier frame of the group ended it.
        """
        if key_frame:
            self._begin()
        group = self._latest
        if group is None:
            raise InvalidInputError(
                "no key frame has come on this stream yet, and decoding starts at one"
            )
        if group.closed is None and group.data_bytes + data_bytes > self._most_bytes:
            self._close(group, self._over_limit())
        elif group.closed is None and not self._room.try_keep(data_bytes):
            self._close(group, _no_room())
        if group.closed is not None:
            raise again(group.closed)
        place = group.append(frame, data_bytes)
        group.users += 1
        return place

    def hold(self, place: Place) -> None:
        """A frame that is in use has one more use, which ends by a `release` of its own."""
        place.group.users += 1

    def release(self, place: Place) -> None:
        """A use of the frame has ended."""
        place.group.users -= 1
        self._forget_unused(place.group)

    def fail(self, group: Group, error: TandemError) -> None:
        """Send no frame of the group any more; those in use and those to come have this error."""
        group.failed = error
        self._close(group, error)

    def _close(self, group: Group, error: TandemError) -> None:
        group.closed = error
        self._forget_unused(group)

    def _begin(self) -> None:
        before, self._latest = self._latest, Group(self._groups)
        self._groups += 1
        if before is not None:
            self._forget_unused(before)

    def _forget_unused(self, group: Group) -> None:
        is_over = group is not self._latest or group.closed is not None
        if is_over and not group.users:
            self._room.keep_less(group.data_bytes)
            group.frames.clear()
            group.data_bytes = 0

    def _over_limit(self) -> ResourceExhaustedError:
        return ResourceExhaustedError(
            f"more than {self._most_bytes / MEBIBYTE:g} MiB of video have come since the last key "
            "frame, which is the limit (max_group_mebibytes of the orchestrator); frames are "
            "served again from the next key frame on"
        )


def again(error: TandemError) -> TandemError:
    """The same error anew: one that is raised twice keeps the frames of both calls."""
    return type(error)(str(error))


def _no_room() -> ResourceExhaustedError:
    return ResourceExhaustedError(
        "the server has no room to keep the video since the last key frame "
        "(max_buffered_mebibytes of the orchestrator); frames are served again from the next key "
        "frame on"
    )


class DecoderProgress:
    """How far the decoder at the end of one stream has come, with all that is on its way there."""

    def __init__(self) -> None:
        """Nothing has been sent."""
        self._group = -1
        self._next = 0
        self._is_lost = False

    def lacks(self, place: Place) -> Optional[Lack]:
        """What the decoder lacks before this frame; None if it is past it, or lost."""
        group, offset = place
        if self._is_lost or group.number < self._group:
            return None
        start = self._next if group.number == self._group else 0
        return None if start > offset else group.part(start, offset)

    def sent(self, place: Place) -> None:
        """The frame is on its way, with all that was lacking before it."""
        self._group, self._next = place.group.number, place.offset + 1

    def lost(self) -> None:
        """The decoder has lost its state, so that every frame takes another stream."""
        self._is_lost = True
