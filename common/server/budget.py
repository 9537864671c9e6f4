"""Limits how many bytes of its peers' messages one process holds.

gRPC reads a whole message into memory as soon as a read is posted. So the budget counts the
messages that the process holds and those that may still arrive on posted reads. Before a stream
reads, it reserves room for the largest message that is expected of it. A message that has arrived
keeps this room until there is also room to work on it. A stream that has not sent a frame yet may
send a message of any size. Only a few such streams read at a time, and when one of them stays
silent for a while, the next newcomer takes its place.
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
"""The default budget, in messages of the largest size."""
LEAST_MESSAGES_BUFFERED = 16
"""The smallest budget, in messages of the largest size; one has to fit in each of its parts."""

# While gRPC reads a message it holds three copies for a moment; it reads one at a time.
_COPIES_AT_READING = 3
# What gRPC buffers of the streams that are not being read, in messages of the largest size.
_MESSAGES_UNREAD = 1
# How many reads that may bring a message of any size are posted at a time. All of them may bring
# one at once, and each of the largest occupies the event loop for more than a tenth of a second.
_WIDE_READS = 4
# A read that has kept a newcomer waiting for so long gives its room up and stays posted, while less
# than this share of the budget is in use. Only so many may do that, since all may wake at once.
_ASLEEP_SECONDS = 0.5
_ASLEEP_READS = 4
_FREE_SHARE = 1 / 4
_NARROW_SHARE = 0.4
# Freed memory is returned to the system each time that large messages, which are those of at least
# this share of the largest, have taken this share of the budget.
_LARGE_SHARE = 1 / 8
_TRIMMED_SHARE = 1 / 6


@dataclass(frozen=True)
class FrameCost:
    """The memory that a message takes while the process works on it.

    Attributes:
        copies: how many copies of its bytes there are at most, including those being sent on.
        working_bytes: memory beside the copies, such as for the network's input.
    """

    copies: int
    working_bytes: int = 0

    def of(self, message_bytes: int) -> int:
        """The bytes that a message of this size takes."""
        return self.copies * message_bytes + self.working_bytes


class WideReader(Protocol):
    """A stream whose next read may bring a message of any size."""

    @property
    def holder(self) -> Holder:
        """The stream and its peer."""
        ...

    @property
    def dismiss(self) -> Callable[[], None]:
        """Ends the stream."""
        ...

    def unreserve(self) -> None:
        """Give the room of its read back; the read stays posted."""
        ...


class ByteBudget:
    """The bytes that one process may hold of the messages sent to it.

    Attributes:
        message_bytes: size of the largest message that is accepted.
        cost: the memory that a message takes while the process works on it.
        wide: room for the reads that may bring a message of any size.
        narrow: room for all other reads.
        held: room for the messages that the process works on.
    """

    def __init__(
        self, limit_bytes: int, message_bytes: int, cost: FrameCost, *, share_peers: bool
    ) -> None:
        """Divide `limit_bytes` among the kinds of use.

        Args:
            limit_bytes: for all streams together; at least `LEAST_MESSAGES_BUFFERED` messages.
            message_bytes: size of the largest message that is accepted.
            cost: the memory that a message takes while the process works on it.
            share_peers: whether one peer gets at most half of each kind.
        """
        beside = _COPIES_AT_READING + _MESSAGES_UNREAD + _WIDE_READS + _ASLEEP_READS
        usable = limit_bytes - beside * message_bytes
        narrow = int(_NARROW_SHARE * usable)
        held = usable - narrow
        self.message_bytes = message_bytes
        self.cost = cost
        # When each wide read began, and how long it may keep a newcomer waiting.
        self._wide_reads: Dict[WideReader, Tuple[float, float]] = {}
        # The wide reads that have given their room up.
        self._asleep: Set[WideReader] = set()
        self._freed_bytes = 0
        self._limit_bytes = limit_bytes
        # Memory of this process before the first stream.
        self._resident_bytes_before = 0
        self._trimmed_bytes = _TRIMMED_SHARE * limit_bytes

        def pool(size: int, least: int) -> Pool:
            return Pool(size, max(size // 2, least) if share_peers else size)

        self.wide = pool(_WIDE_READS * message_bytes, message_bytes)
        self.narrow = pool(narrow, message_bytes)
        self.held = pool(held, min(held, cost.of(message_bytes)))

    def note_stream(self) -> None:
        """A stream begins; before the first one, measure what the process takes anyway."""
        if not self._resident_bytes_before:
            self._resident_bytes_before = resident_bytes()

    def begin_wide_read(self, reader: WideReader, patience_seconds: float) -> None:
        """Take note that a read which may bring a message of any size begins."""
        self._wide_reads[reader] = (time.monotonic(), patience_seconds)

    def end_wide_read(self, reader: WideReader) -> None:
        """Take note that the stream's wide read has ended, if it had one."""
        self._wide_reads.pop(reader, None)
        self._asleep.discard(reader)

    def make_way(self, newcomer: Holder) -> None:
        """Free room for a waiting newcomer: that of the stream that has been silent for longest.

        While the process uses little memory, the silent stream stays open and only gives its room
        up. Otherwise it is ended.
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
        """Take note that a message is gone; now and then, return free memory to the system."""
        if message_bytes < _LARGE_SHARE * self.message_bytes:
            return
        self._freed_bytes += self.cost.of(message_bytes)
        if self._freed_bytes > self._trimmed_bytes:
            self._freed_bytes = 0
            asyncio.get_running_loop().run_in_executor(None, return_free_memory)


def return_free_memory() -> None:
    """Have the C library return its free memory to the system; it keeps many small pieces.

    gRPC reads a message in pieces of some kilobytes. Garbage that is kept by reference cycles, such
    as those of exceptions, is collected first. With a C library other than glibc nothing else is
    done.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """The resident memory of this process, as Linux reports it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
