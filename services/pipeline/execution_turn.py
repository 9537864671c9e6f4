"""Lets one engine of a process execute at a time; others wait in the order of their coming."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Deque, Optional, Type


class ExecutionTurn:
    """A lock whose waiters get it in the order in which they came.

    While two bundles are served, each has an engine on a thread of its own, and both want the same
    device. An ordinary lock would go back to the thread that has just released it, time and again,
    and the other bundle's frames would wait without end.
    """

    def __init__(self) -> None:
        """Nobody has it."""
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: Deque[threading.Lock] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for the turn."""
        return len(self._waiting)

    def __enter__(self) -> None:
        """Wait for the turn."""
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            called = threading.Lock()
            called.acquire()
            self._waiting.append(called)
        called.acquire()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Hand the turn to who has waited longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False
