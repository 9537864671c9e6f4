"""How many bytes of its peers' messages a process holds at most.

gRPC takes a whole message into memory as soon as a read is posted, so that what counts is what is
held and what may come. A read takes room for as much as may come. What has come waits there until
there is room to deal with it, and for what is made of it on the way. Of a stream that has sent no
frame yet anything may come. So few of those read at a time, and if one of them has been silent for
a while, the next newcomer takes its place.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import resource
import time
from dataclasses import dataclass
from typing import Callable, Dict, Protocol, Set, Tuple

from common.server.pool import Holder, Pool

MESSAGES_BUFFERED = 24
"""Of the largest messages, how many the default budget is."""
LEAST_MESSAGES_BUFFERED = 16
"""Of the largest messages, how many a budget has to be at least, so that one fits in any part."""

# While a message comes in, gRPC has it three times for a moment, one message after the other.
_COPIES_AT_READING = 3
# And so much comes of the streams that are not being read.
_MESSAGES_UNREAD = 1
# Reads at a time by which a message of any size may come. They may all come in at once, and each
# of the largest keeps the event loop for a good tenth of a second.
_WIDE_READS = 4
# After so long a read that keeps a newcomer waiting goes without room, while less than this share
# of the budget is in use; so many at a time, since all of them may wake at once.
_ASLEEP_SECONDS = 0.5
_ASLEEP_READS = 4
_FREE_SHARE = 1 / 4
_NARROW_SHARE = 0.4
# Freed memory goes back to the system when messages of at least this share of the largest have
# taken this share of the budget.
_LARGE_SHARE = 1 / 8
_TRIMMED_SHARE = 1 / 6


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


class WideReader(Protocol):
    """A stream by whose next read a message of any size may come."""

    @property
    def holder(self) -> Holder:
        """The stream, and whose it is."""
        ...

    @property
    def dismiss(self) -> Callable[[], None]:
        """Ends the stream."""
        ...

    def unreserve(self) -> None:
        """Give back the room for the read to come, which goes on without."""
        ...


class ByteBudget:
    """The bytes that one process may hold of the messages sent to it.

    Attributes:
        message_bytes: the largest message taken.
        cost: of a message that is dealt with.
        wide: room of reads by which a message of any size may come.
        narrow: of all other reads.
        held: of what is dealt with.
    """

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
        beside = _COPIES_AT_READING + _MESSAGES_UNREAD + _WIDE_READS + _ASLEEP_READS
        usable = limit_bytes - beside * message_bytes
        narrow = int(_NARROW_SHARE * usable)
        held = usable - narrow
        self.message_bytes = message_bytes
        self.cost = cost
        # Since when each wide read has been waited for, and how long it may be.
        self._wide_reads: Dict[WideReader, Tuple[float, float]] = {}
        # Those that go without room.
        self._asleep: Set[WideReader] = set()
        self._freed_bytes = 0
        self._limit_bytes = limit_bytes
        # Of this process, before the first stream.
        self._resident_bytes_before = 0
        self._trimmed_bytes = _TRIMMED_SHARE * limit_bytes

        def pool(size: int, least: int) -> Pool:
            return Pool(size, max(size // 2, least) if share_peers else size)

        self.wide = pool(_WIDE_READS * message_bytes, message_bytes)
        self.narrow = pool(narrow, message_bytes)
        self.held = pool(held, min(held, cost.of(message_bytes)))

    def note_stream(self) -> None:
        """A stream begins: before the first, what the process takes anyway is measured."""
        if not self._resident_bytes_before:
            self._resident_bytes_before = resident_bytes()

    def begin_wide_read(self, reader: WideReader, patience_seconds: float) -> None:
        """A read by which a message of any size may come begins."""
        self._wide_reads[reader] = (time.monotonic(), patience_seconds)

    def end_wide_read(self, reader: WideReader) -> None:
        """It has ended, or was none."""
        self._wide_reads.pop(reader, None)
        self._asleep.discard(reader)

    def make_way(self, newcomer: Holder) -> None:
        """A newcomer waits: take the room of one that has kept it for nothing for longest.

        While little memory is in use, nothing is coming there either: its stream stays, and goes
        without the room. Else it ends.
        """
        is_own_share = not self.wide.within_share(newcomer, self.message_bytes)
        now = time.monotonic()
        for reader, (since, patience_seconds) in self._wide_reads.items():
            if is_own_share and reader.holder.peer != newcomer.peer:
                continue
            if now - since > _ASLEEP_SECONDS and self._may_sleep():
                reader.unreserve()
                self._asleep.add(reader)
                return
            if now - since > patience_seconds:
                del self._wide_reads[reader]
                reader.dismiss()
                return

    def _may_sleep(self) -> bool:
        if len(self._asleep) >= _ASLEEP_READS:
            return False
        used_bytes = resident_bytes() - self._resident_bytes_before
        return used_bytes < _FREE_SHARE * self._limit_bytes

    def freed(self, message_bytes: int) -> None:
        """Messages of this size are gone: now and then, the memory they took is given back."""
        if message_bytes < _LARGE_SHARE * self.message_bytes:
            return
        self._freed_bytes += self.cost.of(message_bytes)
        if self._freed_bytes > self._trimmed_bytes:
            self._freed_bytes = 0
            asyncio.get_running_loop().run_in_executor(None, return_free_memory)


def return_free_memory() -> None:
    """Have the C library give back what is free; it keeps a lot where pieces are small.

    gRPC takes a message in by pieces of some kilobytes. Does nothing with a library other than
    glibc. What is garbage by way of cycles, such as of exceptions, is collected first.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """How much memory this process has, as Linux tells it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
