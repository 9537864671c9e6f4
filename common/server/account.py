"""What one stream holds of its process's byte budget, from the read to come to the answer given."""

from __future__ import annotations

import asyncio
from typing import Callable, Dict, Hashable, Optional

from common.server.budget import ByteBudget
from common.server.pool import Holder

MAX_WAIT_SECONDS = 30.0
"""How long a stream that holds nothing waits for room at most."""

# A stream that has shown what it sends has room for twice as much, within these shares of the
# largest message.
_LEAST_RESERVED_SHARE = 1 / 256
_MOST_HEADROOM_SHARE = 1 / 16
# So long may a read by which a message of any size may come keep a newcomer waiting, if its stream
# has sent nothing, or something.
_NEWCOMER_SECONDS = 2.0
_WIDE_SECONDS = 10.0
# How often, and for how long, a newcomer that waits looks for such a read that does nothing.
_LOOK_SECONDS = 0.25
_LOOKING_SECONDS = 6.0


class StreamBytes:
    """One stream's account: room for the read to come, and what was read and is dealt with.

    Attributes:
        holder: this stream, and whose it is.
        dismiss: ends the stream.
        outstanding: messages read and not yet dealt with.
    """

    def __init__(self, budget: ByteBudget, peer: Hashable, dismiss: Callable[[], None]) -> None:
        """Open the account of a new stream of this peer, which `dismiss` ends."""
        budget.note_stream()
        self.holder = Holder(peer, self)
        self.dismiss = dismiss
        self.outstanding = 0
        self._budget = budget
        self._largest_bytes = 0
        self._has_sent = False
        # For the read to come.
        self._pool = budget.wide
        self._reserved_bytes = 0
        self._arrived: Optional[Charge] = None
        self._charges: Dict[int, Charge] = {}

    @property
    def is_in_the_way(self) -> bool:
        """Whether its next read keeps others waiting."""
        least_bytes = _LEAST_RESERVED_SHARE * self._budget.message_bytes
        return self._reserved_bytes > least_bytes and self._pool.is_short

    @property
    def sends_large(self) -> bool:
        """Whether its messages are so large that few of them can be read at a time."""
        return self._largest_bytes > self._budget.message_bytes // 4

    @property
    def has_room(self) -> bool:
        """Whether the next read needs no `reserve`."""
        return self._reserved_bytes > 0 and self._pool is self._budget.narrow

    async def reserve(self) -> None:
        """Make room for the message that is read next; waits while there is none.

        Raises:
            ResourceExhaustedError: the stream holds nothing, and others left no room for long.
        """
        # A newcomer keeps its place until its first frame has come.
        if not self._reserved_bytes:
            wanted = self._most_to_come()
            is_wide = wanted > self._budget.message_bytes // 2
            self._pool = self._budget.wide if is_wide else self._budget.narrow
            if self._largest_bytes:
                await self._pool.take(self.holder, wanted, self._patience())
            else:
                await self._come_in(wanted)
            self._reserved_bytes = wanted
        if self._pool is self._budget.wide:
            patience_seconds = _WIDE_SECONDS if self._has_sent else _NEWCOMER_SECONDS
            self._budget.begin_wide_read(self, patience_seconds)

    def arrived_at_once(self, message_bytes: int) -> bool:
        """Whether there was room to deal with a message that has come, without waiting.

        This is the way of all ordinary frames; else `arrived` has to be called.
        """
        budget = self._budget
        if self._pool is not budget.narrow or message_bytes > self._reserved_bytes:
            return False
        cost = budget.cost.of(message_bytes)
        if not budget.held.take_at_once(self.holder, cost):
            return False
        self._arrived = Charge(self, cost, message_bytes)
        return True

    async def arrived(self, message_bytes: int) -> None:
        """A message has come: wait until there is room to deal with it.

        Raises:
            ResourceExhaustedError: as `reserve`.
        """
        budget = self._budget
        budget.end_wide_read(self)
        self._has_sent = True
        # More than was expected may have come.
        surplus = self._reserved_bytes - message_bytes
        is_narrow = self._pool is budget.narrow and surplus >= 0
        keeps_place = self._reserved_bytes and (is_narrow or not self._largest_bytes)
        if not keeps_place:
            self._reserved_bytes -= surplus
            self._pool.give_back(self.holder, surplus)
        cost = min(budget.cost.of(message_bytes), budget.held.size_bytes)
        await budget.held.take(self.holder, cost, self._patience())
        if not keeps_place:
            self.unreserve()
        self.drop()
        self._arrived = Charge(self, cost, message_bytes)

    def _most_to_come(self) -> int:
        """Bytes of the next message at most, as far as can be known."""
        largest, most = self._largest_bytes, self._budget.message_bytes
        if not largest:
            return most
        headroom = min(largest, int(_MOST_HEADROOM_SHARE * most))
        return min(most, max(int(_LEAST_RESERVED_SHARE * most), largest + headroom))

    async def _come_in(self, count: int) -> None:
        """Take a newcomer's place, that of one which does nothing if there is no other."""
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
        """No read is under way any more."""
        self._budget.end_wide_read(self)
        self._pool.give_back(self.holder, self._reserved_bytes)
        self._reserved_bytes = 0

    def take(self) -> Charge:
        """What the latest message takes, to be released once it has been dealt with."""
        charge = self._arrived or Charge(self, 0, 0)
        self._arrived = None
        if charge.message_bytes > self._largest_bytes:
            # The next may be larger still.
            self._largest_bytes = charge.message_bytes
            self.unreserve()
        return self._noted(charge)

    def drop(self) -> None:
        """The message read last is of no weight, such as a stream's opening: it holds nothing."""
        if self._arrived is not None:
            self._noted(self._arrived).release()
            self._arrived = None

    def try_copy(self, message_bytes: int) -> Optional[Charge]:
        """Room for one more copy of a message, if there is any at once."""
        cost = self._budget.cost.of(message_bytes)
        if not self._budget.held.take_at_once(self.holder, cost):
            return None
        return self._noted(Charge(self, cost, message_bytes))

    def close(self) -> None:
        """The stream has ended: give back all that it holds."""
        self.unreserve()
        self.drop()
        for charge in tuple(self._charges.values()):
            charge.release()

    def give_back(self, charge: Charge) -> None:
        """A message has been dealt with."""
        if self._charges.pop(id(charge), None) is not None:
            self.outstanding -= 1
            self._budget.held.give_back(self.holder, charge.count)
            self._budget.freed(charge.message_bytes)

    def _noted(self, charge: Charge) -> Charge:
        self._charges[id(charge)] = charge
        self.outstanding += 1
        return charge

    def _patience(self) -> Optional[float]:
        """While its own frames are being dealt with a stream waits for them."""
        return None if self.outstanding else MAX_WAIT_SECONDS


class Charge:
    """Bytes taken by a message that is dealt with.

    Attributes:
        count: bytes taken.
        message_bytes: of the message.
    """

    __slots__ = ("_account", "count", "message_bytes")

    def __init__(self, account: StreamBytes, count: int, message_bytes: int) -> None:
        """Use `StreamBytes.take` instead."""
        self._account = account
        self.count = count
        self.message_bytes = message_bytes

    def release(self) -> None:
        """The message has been dealt with; a second time does nothing."""
        self._account.give_back(self)
