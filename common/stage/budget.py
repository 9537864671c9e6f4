"""How many bytes of its peers' messages a process holds at most.

gRPC takes a whole message into memory as soon as a read is posted, so that what counts is what is
held and what may come. There are two parts. A read takes room in the first, for as much as may
come; once it has come, it waits there for room in the second, where it stays until it has been
dealt with. Each part is at most half full of what one peer has, if peers are told apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Dict, Hashable, List, NamedTuple, Optional

from common.domain.errors import ResourceExhaustedError

_MEBIBYTE = 1 << 20
MESSAGES_BUFFERED = 24
"""Of the largest messages, how many the default budget is."""
LEAST_MESSAGES_BUFFERED = 12
"""Of the largest messages, how many a budget has to be at least, so that one fits in any part."""
MAX_WAIT_SECONDS = 30.0
"""How long a stream that holds nothing waits for room at most."""

# While a message comes in, gRPC has it three times for a moment, one message after the other.
_COPIES_AT_READING = 3
# A stream that has shown what it sends has room for twice as much, at least this.
_LEAST_RESERVED_BYTES = _MEBIBYTE
# Smaller messages pass larger ones that wait, for this long.
_PASSED_SECONDS = 2.0


class Holder(NamedTuple):
    """Who holds bytes: a stream, and the peer that it is of."""

    peer: Hashable
    stream: object


class Pool:
    """A number of bytes that many share; waits are in order, but for small ones that fit."""

    def __init__(self, size_bytes: int, peer_bytes: int) -> None:
        """Share out `size_bytes`: to one peer at most `peer_bytes`, to a stream a quarter.

        A stream that holds nothing may take more than its quarter.
        """
        self.size_bytes = size_bytes
        self.taken_bytes = 0
        self._peer_bytes = peer_bytes
        self._stream_bytes = size_bytes // 4
        self._taken_by: Counter[Hashable] = Counter()
        self._waiting: List[_Wait] = []

    @property
    def is_short(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def take_at_once(self, holder: Holder, count: int) -> bool:
        """Take bytes if that many are free and nobody waits; returns whether they are taken."""
        if self._waiting or not self._fits(holder, count):
            return False
        self._take(holder, count)
        return True

    async def take(self, holder: Holder, count: int, patience_seconds: Optional[float]) -> None:
        """Wait until so many bytes are free, and take them.

        Args:
            holder: who takes them.
            count: bytes.
            patience_seconds: how long to wait; None: as long as it takes.

        Raises:
            ResourceExhaustedError: there was no room for so long.
        """
        if self.take_at_once(holder, count):
            return
        loop = asyncio.get_running_loop()
        wait = _Wait(holder, count, loop.time(), loop.create_future())
        self._waiting.append(wait)
        self._serve()
        try:
            await asyncio.wait([wait.turn], timeout=patience_seconds)
            if not wait.turn.done():
                raise ResourceExhaustedError(
                    f"the server has had no room for another message for {patience_seconds:g} s"
                )
        except BaseException:
            if wait.turn.done():
                self.give_back(holder, count)
            else:
                self._waiting.remove(wait)
                self._serve()
            raise

    def give_back(self, holder: Holder, count: int) -> None:
        """Give bytes back."""
        self._take(holder, -count)
        for each in holder:
            if not self._taken_by[each]:
                del self._taken_by[each]
        self._serve()

    def _serve(self) -> None:
        if not self._waiting:
            return
        now = asyncio.get_running_loop().time()
        for wait in tuple(self._waiting):
            if self._fits(wait.holder, wait.count):
                self._waiting.remove(wait)
                self._take(wait.holder, wait.count)
                wait.turn.set_result(None)
            elif self._within_share(wait.holder, wait.count) and now - wait.since > _PASSED_SECONDS:
                # What is freed next is for this one.
                return

    def _fits(self, holder: Holder, count: int) -> bool:
        fits = self.taken_bytes + count <= self.size_bytes
        return fits and self._within_share(holder, count)

    def _within_share(self, holder: Holder, count: int) -> bool:
        own = self._taken_by[holder.stream]
        return (not own or own + count <= self._stream_bytes) and self._taken_by[
            holder.peer
        ] + count <= self._peer_bytes

    def _take(self, holder: Holder, count: int) -> None:
        self.taken_bytes += count
        for each in holder:
            self._taken_by[each] += count


@dataclass
class _Wait:
    holder: Holder
    count: int
    since: float
    turn: asyncio.Future[None]


@dataclass(frozen=True)
class FrameCost:
    """What a message takes while it is dealt with.

    Attributes:
        copies: of its bytes, at most, those on their way elsewhere included.
        working_bytes: beside them, such as the network's input.
    """

    copies: int
    working_bytes: int = 0

    def of(self, message_bytes: int) -> int:
        """Bytes that a message of this size takes."""
        return self.copies * message_bytes + self.working_bytes


class ByteBudget:
    """The bytes that one process may hold of the messages sent to it."""

    def __init__(
        self, limit_bytes: int, message_bytes: int, cost: FrameCost, *, share_peers: bool
    ) -> None:
        """Share out `limit_bytes`.

        Args:
            limit_bytes: for all streams; at least `LEAST_MESSAGES_BUFFERED` messages.
            message_bytes: the largest message taken.
            cost: of a message that is dealt with.
            share_peers: whether one peer gets half at most.
        """
        usable = limit_bytes - _COPIES_AT_READING * message_bytes
        incoming, held = usable // 2, usable - usable // 2
        self.message_bytes = message_bytes
        self.cost = cost
        self.incoming = Pool(incoming, _share(incoming, message_bytes, share_peers))
        self.held = Pool(held, _share(held, min(held, cost.of(message_bytes)), share_peers))

    def stream(self, peer: Hashable) -> StreamBytes:
        """The account of a new stream of this peer."""
        return StreamBytes(self, peer)


def _share(size: int, least: int, share_peers: bool) -> int:
    return max(size // 2, least) if share_peers else size


class StreamBytes:
    """One stream's account: room for the read to come, and what was read and is dealt with.

    Attributes:
        outstanding: messages read and not yet dealt with.
    """

    def __init__(self, budget: ByteBudget, peer: Hashable) -> None:
        """Use `ByteBudget.stream` instead."""
        self._budget = budget
        self._holder = Holder(peer, self)
        self._largest_bytes = 0
        self._reserved_bytes = 0
        self._arrived: Optional[Charge] = None
        self._charges: Dict[int, Charge] = {}
        self.outstanding = 0

    @property
    def is_in_the_way(self) -> bool:
        """Whether its next read keeps others waiting."""
        return self._reserved_bytes > _LEAST_RESERVED_BYTES and self._budget.incoming.is_short

    async def reserve(self) -> None:
        """Make room for the message that is read next; waits while there is none.

        Raises:
            ResourceExhaustedError: the stream holds nothing, and others left no room for long.
        """
        largest = self._budget.message_bytes
        if self._largest_bytes:
            largest = min(largest, max(_LEAST_RESERVED_BYTES, 2 * self._largest_bytes))
        await self._budget.incoming.take(self._holder, largest, self._patience())
        self._reserved_bytes = largest

    async def arrived(self, message_bytes: int) -> None:
        """A message has come: wait until there is room to deal with it.

        Raises:
            ResourceExhaustedError: as `reserve`.
        """
        budget = self._budget
        surplus = self._reserved_bytes - message_bytes
        self._reserved_bytes -= surplus
        budget.incoming.give_back(self._holder, surplus)
        cost = min(budget.cost.of(message_bytes), budget.held.size_bytes)
        try:
            await budget.held.take(self._holder, cost, self._patience())
        finally:
            self.unreserve()
        self.drop()
        self._arrived = Charge(self, cost, message_bytes)

    def unreserve(self) -> None:
        """No read is under way any more."""
        self._budget.incoming.give_back(self._holder, self._reserved_bytes)
        self._reserved_bytes = 0

    def take(self) -> Charge:
        """What the latest message takes, to be released once it has been dealt with."""
        charge = self._arrived or Charge(self, 0, 0)
        self._arrived = None
        self._largest_bytes = max(self._largest_bytes, charge.message_bytes, 1)
        return self._noted(charge)

    def drop(self) -> None:
        """The message read last is of no weight, such as a stream's opening: it holds nothing."""
        if self._arrived is not None:
            self._noted(self._arrived).release()
            self._arrived = None

    def try_copy(self, message_bytes: int) -> Optional[Charge]:
        """Room for one more copy of a message, if there is any at once."""
        cost = self._budget.cost.of(message_bytes)
        if not self._budget.held.take_at_once(self._holder, cost):
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
            self._budget.held.give_back(self._holder, charge.count)

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
