"""Work on threads of its own, for plain code and for asyncio; and how many an engine gets."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar, cast

from common.domain.errors import InvalidInputError, TandemError

T = TypeVar("T")
R = TypeVar("R")

_END: Final = object()
# A read from a camera that went mute cannot be broken off; nobody waits for it longer than this.
_CLOSE_SECONDS = 1.0


class WorkerThread:
    """Calls functions in turn; unlike an executor's, it does not hold up the process's end."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        # The thread knows the queue alone, so that whoever owns it can be collected.
        self._thread = threading.Thread(target=_work, args=(self._calls,), name=name, daemon=True)
        self._thread.start()
        self._is_ended = False

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Queue a call; cancelling the future leaves out a call that has not begun."""
        if self._is_ended:
            raise RuntimeError("a thread is used after its end")
        future: Future[T] = Future()
        self._calls.put((function, future))
        return future

    def end(self) -> None:
        """End the thread after the calls that are queued; does not wait for it."""
        self._is_ended = True
        self._calls.put(None)

    def join(self, timeout_seconds: float) -> None:
        """Wait for the end of the thread, for so long at the most."""
        self._thread.join(timeout_seconds)


def answered_in_order(
    items: Iterable[T], submit: Callable[[int, T], Future[R]], most_in_flight: int
) -> Iterator[R]:
    """Submit each item with its number, from 0, and yield the answers in the items' order.

    Items are read in a thread of their own, so that an answer that is there does not wait for the
    next item.

    Args:
        items: what to submit; closed at the end if it can be.
        submit: begins the work on an item.
        most_in_flight: items submitted whose answers have not been taken yet.

    Raises:
        TandemError: that the items, or `submit`, raised; the answers of earlier items come first.
        InvalidInputError: the items raised something else.
    """
    reader = _Reader(items)
    pending: deque[Future[R]] = deque()
    number, ended, failure = 0, False, None
    try:
        while pending or not ended:
            coming = [reader.coming] if not ended and len(pending) < most_in_flight else []
            first: list[Future[Any]] = [*coming, *list(pending)[:1]]
            wait(first, return_when=FIRST_COMPLETED)
            if not (coming and coming[0].done()):
                yield pending.popleft().result()
                continue
            try:
                item = reader.take()
                ended = item is _END
                if not ended:
                    pending.append(submit(number, cast(T, item)))
                    number += 1
            except TandemError as error:
                ended, failure = True, error
        if failure is not None:
            raise failure
    finally:
        for unwanted in pending:
            unwanted.cancel()
        reader.close()


async def iterate_in_thread(iterable: Iterable[T]) -> AsyncIterator[T]:
    """Advance a blocking iterable in a thread of its own, one item ahead of nobody.

    The next item is asked for only when the consumer asks. All steps run on one thread, in turn,
    so that decoders that are bound to a thread work. A generator is closed at the end; if it is
    in the midst of a step that does not return, as soon as it does.
    """
    thread = WorkerThread("frames")
    iterator = await _awaitable(thread.call(lambda: iter(iterable)))
    try:
        while True:
            item = await _awaitable(thread.call(lambda: _next_or_end(iterator)))
            if item is _END:
                return
            yield cast(T, item)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            await asyncio.wait({_awaitable(thread.call(close))}, timeout=_CLOSE_SECONDS)
        thread.end()


async def call_in_thread(function: Callable[[], T]) -> T:
    """Call what may block; a caller that is cancelled meanwhile does not wait for its return."""
    thread = WorkerThread("call")
    result = _awaitable(thread.call(function))
    thread.end()
    return await result


async def complete_in_thread(function: Callable[[], T]) -> T:
    """Call what may block; a caller that is cancelled meanwhile still waits for its return."""
    work = asyncio.ensure_future(asyncio.to_thread(function))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return work.result()


class _Reader(Generic[T]):
    """Reads items in a thread, one ahead of who takes them."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._iterator: Iterator[T] | None = None
        self._thread = WorkerThread("frames")
        self.coming: Future[object] = self._thread.call(self._next)

    def take(self) -> object:
        """The item that was read, or `_END`."""
        item = self.coming.result()
        if item is not _END:
            self.coming = self._thread.call(self._next)
        return item

    def close(self) -> None:
        wait([self._thread.call(self._close)], timeout=_CLOSE_SECONDS)
        self._thread.end()

    def _next(self) -> object:
        try:
            if self._iterator is None:
                self._iterator = iter(self._items)
            return _next_or_end(self._iterator)
        except TandemError:
            raise
        except Exception as error:
            raise InvalidInputError(f"the source of the frames failed: {error!r}") from error

    def _close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


def _next_or_end(iterator: Iterator[T]) -> object:
    # StopIteration cannot cross a Future.
    return next(iterator, _END)


def _work(calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]) -> None:
    while (call := calls.get()) is not None:
        function, future = call
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(function())
        except BaseException as caught:  # noqa: BLE001 - it is the caller's
            future.set_exception(caught)
        # What was computed is not kept until the next call.
        del call, function, future


def _awaitable(future: Future[T]) -> asyncio.Future[T]:
    """The same for asyncio; the call goes on if the task that awaits it is cancelled."""
    loop = asyncio.get_running_loop()
    awaited: asyncio.Future[T] = loop.create_future()

    def settle_soon(done: Future[T]) -> None:
        # The loop may have ended while a call did not return.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, awaited, done)

    future.add_done_callback(settle_soon)
    return awaited


def _settle(awaited: asyncio.Future[T], done: Future[T]) -> None:
    if awaited.cancelled():
        return
    error = done.exception()
    if error is not None:
        awaited.set_exception(error)
        # One that nobody waits for any more is no reason to complain at the end.
        awaited.exception()
    else:
        awaited.set_result(done.result())


def threads_per_engine() -> int:
    """CPU threads of one engine.

    A stream keeps one backbone and one transformer busy at a time, whatever the placement, so
    that two engines share the cores.
    """
    return max(1, available_cores() // 2)


def available_cores() -> int:
    """Cores that this process may use; fewer than the machine has under taskset or in a cpuset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
