"""The part of its process's byte budget that one stream holds: for its next read and its frames."""

from __future__ import annotations

import asyncio
from typing import Callable, Dict, Hashable, Optional

from common.server.budget import ByteBudget, FrameCost
from common.server.pool import Holder

MAX_WAIT_SECONDS = 30.0
"""The longest that a stream which holds nothing waits for room."""

# A stream reserves twice the size of its largest message so far; these shares of the largest
# message that is accepted bound the least reservation and the headroom.
_LEAST_RESERVED_SHARE = 1 / 256
_MOST_HEADROOM_SHARE = 1 / 16
# How long a read that may bring a message of any size may keep a newcomer waiting, if its stream
# has sent nothing so far, and if it has.
_NEWCOMER_SECONDS = 2.0
_WIDE_SECONDS = 10.0
# How often, and for how long, a waiting newcomer looks for such a read that brings nothing.
_LOOK_SECONDS = 0.25
_LOOKING_SECONDS = 6.0


class StreamBytes:
    """One stream's account: room for its next read, and for the messages that are worked on.

    Attributes:
        holder: this stream and its peer.
        dismiss: ends the stream.
        outstanding: how many of its messages are being worked on.
        cost: the memory that one of its messages takes while it is worked on; None: that of any.
    """

    def __init__(
        self,
        budget: ByteBudget,
        peer: Hashable,
        dismiss: Callable[[], None],
        told_bytes: Optional[int] = None,
    ) -> None:
        """Open the account of a new stream.

        Args:
            budget: that it shares with others.
            peer: that opened it.
            dismiss: ends it.
            told_bytes: the largest message to come, as its caller says; None: not told.
        """
        budget.note_stream()
        self.holder = Holder(peer, self)
        self.dismiss = dismiss
        self.outstanding = 0
        self.cost: Optional[FrameCost] = None
        self._budget = budget
        self._told_bytes = told_bytes
        self._largest_bytes = 0
        self._has_sent = False
        # Room for the next read.
        self._pool = budget.wide
        self._reserved_bytes = 0
        self._arrived: Optional[Charge] = None
        # What it holds for as long as it is open, apart from its messages: a stream that holds none
        # of these may have one of any size.
        self._keeper = self.holder._replace(stream=object())
        self._kept_bytes = 0
        self._charges: Dict[int, Charge] = {}

    @property
    def is_in_the_way(self) -> bool:
        """Whether the room for its next read keeps others waiting."""
        least_bytes = _LEAST_RESERVED_SHARE * self._budget.message_bytes
        return self._reserved_bytes > least_bytes and self._pool.is_short

    @property
    def largest_bytes(self) -> int:
        """The size of its largest message so far; 0 before its first frame."""
        return self._largest_bytes

    @property
    def sends_large(self) -> bool:
        """Whether its messages are so large that few of them can be read at a time."""
        return self._largest_bytes > self._budget.message_bytes // 4

    @property
    def has_room(self) -> bool:
        """Whether the next read needs no `reserve`."""
        return self._reserved_bytes > 0 and self._pool is self._budget.narrow

    async def reserve(self) -> None:
        """Reserve room for the next message; waits while there is none.

        Raises:
            ResourceExhaustedError: the stream holds nothing, and there was no room for long.
        """
        # A newcomer keeps its place until its first frame has come.
        if not self._reserved_bytes:
            wanted = self._most_to_come()
            is_wide = wanted > self._budget.message_bytes // 2
            self._pool = self._budget.wide if is_wide else self._budget.narrow
            # Places for messages of any size are few; who told its own needs none of them.
            if self._largest_bytes or not is_wide:
                await self._pool.take(self.holder, wanted, self._patience())
            else:
                await self._come_in(wanted)
            self._reserved_bytes = wanted
        if self._pool is self._budget.wide:
            patience_seconds = _WIDE_SECONDS if self._has_sent else _NEWCOMER_SECONDS
            self._budget.begin_wide_read(self, patience_seconds)

    def arrived_at_once(self, message_bytes: int) -> bool:
        """Take room for a message that has arrived, if that needs no wait; returns whether.

        Ordinary frames need none. For the others `arrived` has to be called.
        """
        budget = self._budget
        if self._pool is not budget.narrow or message_bytes > self._reserved_bytes:
            return False
        cost = (self.cost or budget.cost).of(message_bytes)
        if not budget.held.take_at_once(self.holder, cost):
            return False
        self._arrived = Charge(self, cost, message_bytes)
        return True

    async def arrived(self, message_bytes: int) -> None:
        """A message has arrived: wait until there is room to work on it.

        Raises:
            ResourceExhaustedError: as for `reserve`.
        """
        budget = self._budget
        budget.end_wide_read(self)
        self._has_sent = True
        # The message may be larger than was expected.
        surplus = self._reserved_bytes - message_bytes
        is_narrow = self._pool is budget.narrow and surplus >= 0
        keeps_place = self._reserved_bytes and (is_narrow or not self._largest_bytes)
        if not keeps_place:
            self._reserved_bytes -= surplus
            self._pool.give_back(self.holder, surplus)
        cost = min((self.cost or budget.cost).of(message_bytes), budget.held.size_bytes)
        await budget.held.take(self.holder, cost, self._patience())
        if not keeps_place:
            self.unreserve()
        self.drop()
        self._arrived = Charge(self, cost, message_bytes)

    def _most_to_come(self) -> int:
        """The largest size expected of the next message, bytes."""
        largest, most = self._largest_bytes, self._budget.message_bytes
        if not largest:
            if self._told_bytes is None:
                return most
            largest = self._told_bytes
        headroom = min(largest, int(_MOST_HEADROOM_SHARE * most))
        return min(most, max(int(_LEAST_RESERVED_SHARE * most), largest + headroom))

    async def _come_in(self, count: int) -> None:
        """Take a newcomer's place, if need be that of a stream which sends nothing."""
        pool = self._pool
        taking = asyncio.ensure_future(
            pool.take(self.holder, count, MAX_WAIT_SECONDS, newest_first=True)
        )
        try:
            for _look in range(int(_LOOKING_SECONDS / _LOOK_SECONDS)):
                done, _ = await asyncio.wait([taking], timeout=_LOOK_SECONDS)
                if done:
                    break
                self._budget.make_way(self.holder)
            await taking
        except asyncio.CancelledError:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            if not taking.cancelled() and taking.exception() is None:
                pool.give_back(self.holder, count)
            raise

    def unreserve(self) -> None:
        """Give the room for a read back: none is under way any more."""
        self._budget.end_wide_read(self)
        self._pool.give_back(self.holder, self._reserved_bytes)
        self._reserved_bytes = 0

    def take(self) -> Charge:
        """The charge for the latest message, to be released when the work on it is done."""
        charge = self._arrived or Charge(self, 0, 0)
        self._arrived = None
        if charge.message_bytes > self._largest_bytes:
            # The next may be larger still.
            self._largest_bytes = charge.message_bytes
            self.unreserve()
        return self._noted(charge)

    def drop(self) -> None:
        """Release the latest message at once, because it was no frame but, say, an opening."""
        if self._arrived is not None:
            self._noted(self._arrived).release()
            self._arrived = None

    def keep(self, count: int) -> None:
        """Take room for what the stream holds until it ends, beside its messages.

        It waits for nobody, even if there is no room: the message behind the opening may be on its
        way, and would hold what this waits for. The number of streams bounds what they keep.

        Args:
            count: bytes.
        """
        self._budget.held.take_anyway(self._keeper, count)
        self._kept_bytes += count

    def try_keep(self, count: int) -> bool:
        """Take room for something to hold, beside the messages, until `keep_less` or the end.

        Args:
            count: bytes.

        Returns:
            Whether there was any. That others wait for room is no matter: a stream whose frames are
            no larger than theirs must not fail since one waits for room for something large.
        """
        if not self._budget.held.take_in_front(self._keeper, count):
            return False
        self._kept_bytes += count
        return True

    def keep_less(self, count: int) -> None:
        """Give so many bytes back of what the stream keeps."""
        # When the stream has ended, all of it was given back.
        given_back = min(count, self._kept_bytes)
        self._budget.held.give_back(self._keeper, given_back)
        self._kept_bytes -= given_back

    def try_copy(self, message_bytes: int) -> Optional[Charge]:
        """Take room for one more copy of a message, if that needs no wait; None if it does."""
        cost = (self.cost or self._budget.cost).of(message_bytes)
        if not self._budget.held.take_at_once(self.holder, cost):
            return None
        return self._noted(Charge(self, cost, message_bytes))

    def close(self) -> None:
        """Give all that the stream holds back: it has ended."""
        self.unreserve()
        self.drop()
        self._budget.held.give_back(self._keeper, self._kept_bytes)
        self._kept_bytes = 0
        for charge in tuple(self._charges.values()):
            charge.release()

    def give_back(self, charge: Charge) -> None:
        """Give a charge back: the work on its message is done."""
        if self._charges.pop(id(charge), None) is not None:
            self.outstanding -= 1
            self._budget.held.give_back(self.holder, charge.count)
            self._budget.freed(charge.message_bytes)

    def _noted(self, charge: Charge) -> Charge:
        self._charges[id(charge)] = charge
        self.outstanding += 1
        return charge

    def _patience(self) -> Optional[float]:
        """How long to wait for room; without limit while frames of its own will free some."""
        return None if self.outstanding else MAX_WAIT_SECONDS


class Charge:
    """The memory that is charged for a message while the process works on it.

    Attributes:
        count: bytes that are charged.
        message_bytes: size of the message itself.
    """

    __slots__ = ("_account", "count", "message_bytes")

    def __init__(self, account: StreamBytes, count: int, message_bytes: int) -> None:
        """Use `StreamBytes.take` instead."""
        self._account = account
        self.count = count
        self.message_bytes = message_bytes

    def release(self) -> None:
        """The work on the message is done; releasing it twice does nothing."""
        self._account.give_back(self)
