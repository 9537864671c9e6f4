"""A queue whose streams take turns."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from queue import SimpleQueue
from typing import Deque, Generic, Hashable, TypeVar

T = TypeVar("T")


class TurnQueue(Generic[T]):
    """Gives out one item of each stream that has any, round and round; any thread may use it.

    Items of one stream keep their order. An item waits for at most one of each other stream after
    those of its own, however many they have.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._waiting: OrderedDict[Hashable, Deque[T]] = OrderedDict()
        self._lock = threading.Lock()
        # One for each item. Unlike a condition's, its waking does not give the GIL away.
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def put(self, stream: Hashable, item: T) -> None:
        """Queue an item behind those of its stream; never waits for those who take."""
        with self._lock:
            self._waiting.setdefault(stream, deque()).append(item)
        self._tokens.put(None)

    def take(self) -> T:
        """Wait for an item and remove it."""
        self._tokens.get()
        with self._lock:
            stream, items = self._waiting.popitem(last=False)
            item = items.popleft()
            if items:
                self._waiting[stream] = items
        return item
