"""Blocking iterators for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, cast

T = TypeVar("T")

_END: Final = object()


async def iterate_in_thread(iterable: Iterable[T]) -> AsyncIterator[T]:
    """Advance a blocking iterable in a thread of its own, one item ahead of nobody.

    The next item is asked for only when the consumer asks. All steps run on one thread, in turn,
    so that decoders that are bound to a thread work. A generator is closed at the end.
    """
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frames")
    iterator = await loop.run_in_executor(executor, iter, iterable)
    try:
        while True:
            item = await loop.run_in_executor(executor, _next_or_end, iterator)
            if item is _END:
                return
            yield cast(T, item)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            await loop.run_in_executor(executor, close)
        executor.shutdown(wait=False)


def _next_or_end(iterator: Iterator[T]) -> object:
    # StopIteration cannot cross a Future.
    return next(iterator, _END)
