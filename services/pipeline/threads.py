"""Threads whose jobs take turns by stream."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import Callable, Hashable, List, Optional, TypeVar

from services.pipeline.turns import TurnQueue

T = TypeVar("T")
Job = Callable[[], None]


class TurnThreads:
    """Threads that run jobs; streams with waiting jobs take turns, each keeps its order.

    A job must not raise: it reports its failures itself.
    """

    def __init__(self, count: int, name: str) -> None:
        """Start `count` threads."""
        self._jobs: TurnQueue[Optional[Job]] = TurnQueue()
        # When the present job of each thread began, by `time.perf_counter`.
        self._busy_since: List[Optional[float]] = [None] * count
        self._threads = [
            # A thread that hangs in a driver must not keep the process from ending.
            threading.Thread(target=self._work, args=(index,), name=f"{name}-{index}", daemon=True)
            for index in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, stream: Hashable, job: Job) -> None:
        """Queue a job behind those of its stream."""
        self._jobs.put(stream, job)

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

    def busy_seconds(self) -> float:
        """How long the oldest of the present jobs has been running; 0 if there is none."""
        now = time.perf_counter()
        return max(now - since if since is not None else 0.0 for since in self._busy_since)

    def close(self, timeout_seconds: float) -> bool:
        """End the threads after their present jobs; queued ones, of ended streams, are left.

        Args:
            timeout_seconds: how long to wait for the present jobs, all together.

        Returns:
            Whether all have ended; a thread that hangs is left behind and ends with the process.
        """
        for index in range(len(self._threads)):
            self._jobs.put((self, index), None)
        deadline = time.perf_counter() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.perf_counter()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, index: int) -> None:
        while True:
            job = self._jobs.take()
            if job is None:
                return
            self._busy_since[index] = time.perf_counter()
            job()
            self._busy_since[index] = None
