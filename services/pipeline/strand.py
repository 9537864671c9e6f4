"""Jobs of one stream that run one at a time, in their order, on threads that many streams share."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Hashable, Optional, TypeVar

from services.pipeline.turns import Job, TurnThreads

T = TypeVar("T")
# Gets the result, or what was raised.
Told = Callable[[Optional[T], Optional[BaseException]], None]


class Strand:
    """A queue of jobs, each of which begins when the one before has ended.

    Two threads that take jobs of one stream may end them in another order. What depends on the
    frame before, such as a code over time, needs a strand. It occupies no thread while it waits,
    and takes its turn with the other streams for every job. Any thread may submit.
    """

    def __init__(self, threads: TurnThreads, stream: Hashable) -> None:
        """Run jobs on `threads`, in the turns of `stream`."""
        self._threads = threads
        self._stream = stream
        self._lock = threading.Lock()
        self._jobs: Deque[Job] = deque()
        self._is_busy = False

    def submit(self, job: Job) -> None:
        """Queue a job, which must not raise, behind all that were submitted before."""
        with self._lock:
            self._jobs.append(job)
            if self._is_busy:
                return
            self._is_busy = True
        self._threads.submit(self._stream, self._run_next)

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function in its turn and wait for what it returns or raises."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.begin(function, partial(_settle, answer))
        return await answer

    def begin(self, function: Callable[[], T], tell: Told[T]) -> None:
        """Run a function in its turn; what it returns or raises is told on this event loop."""
        loop = asyncio.get_running_loop()

        def job() -> None:
            try:
                result = function()
            except BaseException as error:
                loop.call_soon_threadsafe(tell, None, error)
            else:
                loop.call_soon_threadsafe(tell, result, None)

        self.submit(job)

    def _run_next(self) -> None:
        self._jobs.popleft()()
        with self._lock:
            has_next = self._is_busy = bool(self._jobs)
        if has_next:
            self._threads.submit(self._stream, self._run_next)


def _settle(answer: asyncio.Future[Any], result: Any, error: Optional[BaseException]) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
