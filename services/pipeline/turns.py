"""Queues and threads at which streams take turns: one item of each stream, round and round."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import Future
from typing import Callable, Deque, Generic, Hashable, List, Optional, TypeVar

T = TypeVar("T")
Job = Callable[[], None]


class Turns(Generic[T]):
    """A queue for items of many streams, which take turns; any thread may use it.

    Items of one stream keep their order. The next item of a stream waits for at most one item of
    each other stream, however many these have.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._waiting: OrderedDict[Hashable, Deque[T]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, stream: Hashable, item: T) -> None:
        """Add an item behind those of its stream."""
        with self._lock:
            self._waiting.setdefault(stream, deque()).append(item)

    def remove(self, stream: Hashable, item: T) -> None:
        """Take an item out, wherever it stands among those of its stream."""
        with self._lock:
            items = self._waiting[stream]
            items.remove(item)
            if not items:
                del self._waiting[stream]

    def __bool__(self) -> bool:
        """Whether there are any items."""
        return bool(self._waiting)

    def pop(self) -> T:
        """Remove and return the item whose turn it is.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            stream, items = self._waiting.popitem(last=False)
            item = items.popleft()
            if items:
                self._waiting[stream] = items
        return item

    def heads(self) -> List[T]:
        """The next item of each stream."""
        with self._lock:
            return [items[0] for items in self._waiting.values()]

    def fill(self, taken: List[T], limit: int, fits: Callable[[T, List[T]], bool]) -> None:
        """Move the items whose turn it is to the end of `taken`, at most one of each stream.

        Args:
            taken: the list to extend; it may hold items already.
            limit: how many items the list may hold.
            fits: says whether a stream's next item may be added to those in `taken`. If it may not,
                the stream keeps its place in the order.
        """
        with self._lock:
            for stream in tuple(self._waiting):
                if len(taken) >= limit:
                    return
                items = self._waiting[stream]
                if not fits(items[0], taken):
                    continue
                taken.append(items.popleft())
                del self._waiting[stream]
                if items:
                    self._waiting[stream] = items


class TurnThreads:
    """Threads that run jobs; streams with waiting jobs take turns, each keeps its order.

    A job must not raise: it reports its failures itself.
    """

    def __init__(self, count: int, name: str) -> None:
        """Start `count` threads."""
        self._jobs: Turns[Optional[Job]] = Turns()
        self._lock = threading.Lock()
        # What each thread without a job waits for; the one that was busy last is the last. A lock
        # wakes just that thread, which a queue's does not, and does not give the GIL away, as a
        # condition's waking does.
        self._idle: List[threading.Lock] = []
        # When the current job of each thread began, by `time.perf_counter`.
        self._busy_since: List[Optional[float]] = [None] * count
        self._threads = [
            # A thread that hangs in a driver must not keep the process from ending.
            threading.Thread(target=self._work, args=(index,), name=f"{name}-{index}", daemon=True)
            for index in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, stream: Hashable, job: Optional[Job]) -> None:
        """Queue a job behind those of its stream; None ends the thread that takes it."""
        with self._lock:
            self._jobs.put(stream, job)
            if self._idle:
                self._idle.pop().release()

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function on one of the threads and wait for what it returns or raises."""
        answer: Future[T] = Future()

        def job() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(function())
            except BaseException as error:
                answer.set_exception(error)

        self.submit(self, job)
        return await asyncio.wrap_future(answer)

    @property
    def is_idle(self) -> bool:
        """Whether a thread waits for jobs."""
        return bool(self._idle)

    def busy_seconds(self) -> float:
        """How long the oldest of the current jobs has been running; 0 if there is none."""
        now = time.perf_counter()
        return max(now - since if since is not None else 0.0 for since in self._busy_since)

    def close(self, timeout_seconds: float) -> bool:
        """End the threads after their current jobs; queued jobs may be left undone.

        Args:
            timeout_seconds: how long to wait for all of the current jobs together.

        Returns:
            Whether all have ended; a thread that hangs is left behind and ends with the process.
        """
        for index in range(len(self._threads)):
            self.submit((self, index), None)
        deadline = time.perf_counter() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.perf_counter()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, index: int) -> None:
        waking = threading.Lock()
        waking.acquire()
        while True:
            job = self._next_job(waking)
            if job is None:
                return
            self._busy_since[index] = time.perf_counter()
            job()
            self._busy_since[index] = None
            # Or the thread would keep what the job worked on until the next one comes.
            del job

    def _next_job(self, waking: threading.Lock) -> Optional[Job]:
        while True:
            with self._lock:
                if self._jobs:
                    return self._jobs.pop()
                self._idle.append(waking)
            waking.acquire()
