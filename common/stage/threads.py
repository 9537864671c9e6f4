"""Threads whose jobs take turns by stream."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Callable, Hashable, Optional, TypeVar

from common.stage.turns import TurnQueue

T = TypeVar("T")
Job = Callable[[], None]


class TurnThreads:
    """Threads that run jobs; streams with waiting jobs take turns, each keeps its order.

    A job must not raise: it reports its failures itself.
    """

    def __init__(self, count: int, name: str) -> None:
        """Start `count` threads."""
        self._jobs: TurnQueue[Optional[Job]] = TurnQueue()
        self._threads = [
            # A thread that hangs in a driver must not keep the process from ending.
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
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

    def close(self) -> None:
        """End the threads after their present jobs; queued ones, of ended streams, are left."""
        for index in range(len(self._threads)):
            self._jobs.put((self, index), None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            job = self._jobs.take()
            if job is None:
                return
            job()
