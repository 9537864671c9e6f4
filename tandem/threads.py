"""Blocking work for asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

_END: Final = object()
# A read from a camera that went mute cannot be broken off; nobody waits for it longer than this.
_CLOSE_SECONDS = 1.0


async def iterate_in_thread(iterable: Iterable[T]) -> AsyncIterator[T]:
    """Advance a blocking iterable in a thread of its own, one item ahead of nobody.

    The next item is asked for only when the consumer asks. All steps run on one thread, in turn,
    so that decoders that are bound to a thread work. A generator is closed at the end; if it is
    in the midst of a step that does not return, as soon as it does.
    """
    thread = _Thread("frames")
    iterator = await thread.call(lambda: iter(iterable))
    try:
        while True:
            item = await thread.call(lambda: _next_or_end(iterator))
            if item is _END:
                return
            yield cast(T, item)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            await asyncio.wait({thread.call(close)}, timeout=_CLOSE_SECONDS)
        thread.end()


async def call_in_thread(function: Callable[[], T]) -> T:
    """Call what may block; who is cancelled meanwhile does not wait for its return."""
    thread = _Thread("call")
    thread_result = thread.call(function)
    thread.end()
    return await thread_result


async def complete_in_thread(function: Callable[[], T]) -> T:
    """Call what may block; who is cancelled meanwhile still waits for its return."""
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


class _Thread:
    """Calls functions in turn; unlike an executor's, it does not hold up the process's end."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None]
        self._calls = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((function, future))
        return future

    def end(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            try:
                result, error = function(), None
            except BaseException as caught:  # noqa: BLE001 - it is the caller's
                result, error = None, caught
            # The loop may have ended while a call did not return.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
        # One that nobody waits for any more is no reason to complain at the end.
        future.exception()
    else:
        future.set_result(result)


def _next_or_end(iterator: Iterator[T]) -> object:
    # StopIteration cannot cross a Future.
    return next(iterator, _END)
