"""Lets one engine of a process execute at a time; others wait in the order of their coming."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Callable, Hashable, List, NamedTuple, Optional


class _Waiter(NamedTuple):
    """Who waits for the turn.

    Attributes:
        since: when its frame became ready.
        called: is released when it has the turn.
    """

    since: float
    called: threading.Lock


class ExecutionTurn:
    """A lock whose waiters get it in the order in which they came.

    While two bundles are served, each has an engine on a thread of its own, and both want the same
    device. An ordinary lock would go back to the thread that has just released it, time and again,
    and the other bundle's frames would wait without end.

    Engines of one line have one turn together: they are of bundles of which one replaces the other.
    Among them the frame goes first that became ready first. In the order of coming, each frame of
    the bundle before would wait for one of the new bundle, which is answered after all of them.
    """

    def __init__(self) -> None:
        """Nobody has it."""
        self._lock = threading.Lock()
        self._is_taken = False
        # By line; the first one is the next.
        self._waiting: OrderedDict[Hashable, List[_Waiter]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait for the turn."""
        with self._lock:
            return sum(len(waiters) for waiters in self._waiting.values())

    def take(self, line: Hashable, since: float) -> None:
        """Wait for the turn.

        Args:
            line: of the engine.
            since: when its frame became ready, by `time.perf_counter`.
        """
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            waiter = _Waiter(since, threading.Lock())
            waiter.called.acquire()
            self._waiting.setdefault(line, []).append(waiter)
        waiter.called.acquire()

    def pass_on(self, line: Hashable, next_since: Callable[[], Optional[float]]) -> bool:
        """Hand the turn to the next one, unless that is who has it.

        Args:
            line: of the engine that has the turn.
            next_since: tells when the engine's next frame became ready; None if it has none.

        Returns:
            Whether the caller keeps the turn, since its next frame is older than those that wait in
            its line, and nobody else waits.
        """
        with self._lock:
            if not self._waiting:
                self._is_taken = False
                return False
            is_alone = len(self._waiting) == 1 and line in self._waiting
            own_since = next_since() if is_alone else None
            following, waiters = self._waiting.popitem(last=False)
            oldest = min(waiters, key=lambda waiter: waiter.since)
            is_kept = own_since is not None and own_since < oldest.since
            if not is_kept:
                waiters.remove(oldest)
                oldest.called.release()
            if waiters:
                self._waiting[following] = waiters
        return is_kept


class Place:
    """One engine's place at the turn.

    Any thread may change its line; all else is for the engine's thread.

    Attributes:
        has_turn: whether the engine may execute.
    """

    def __init__(self, turn: ExecutionTurn) -> None:
        """In a line of its own."""
        self._turn = turn
        self._replacement: Optional[Place] = None
        self.has_turn = False

    @property
    def line(self) -> Hashable:
        """That of the engine which replaces this one at last."""
        last = self
        while last._replacement is not None:
            last = last._replacement
        return last

    def begin_line(self) -> None:
        """The engine's bundle begins to be served, and has nothing to do with those before."""
        self._replacement = None

    def join(self, replacement: Place) -> None:
        """Another engine's bundle takes the place of this one's, and both have one turn.

        Args:
            replacement: the place of an engine whose bundle is served.
        """
        self._replacement = replacement

    def take(self, since: float) -> None:
        """Wait for the turn, unless it was kept; see `ExecutionTurn.take`."""
        if not self.has_turn:
            self._turn.take(self.line, since)
            self.has_turn = True

    def pass_on(self, next_since: Callable[[], Optional[float]]) -> None:
        """Hand the turn on, or keep it for the next frame; see `ExecutionTurn.pass_on`."""
        self.has_turn = self._turn.pass_on(self.line, next_since)

    def leave(self) -> None:
        """Hand the turn on if it was kept, as there is no frame any more."""
        if self.has_turn:
            self.pass_on(lambda: None)
