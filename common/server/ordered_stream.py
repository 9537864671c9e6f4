"""The loop of every stream: reads requests, works on several at a time, answers them in order."""

from __future__ import annotations

import asyncio
from typing import AsyncIterator, Awaitable, Callable, Generic, List, Optional, Protocol, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Slots(Protocol):
    """Limits how many requests are worked on; an `asyncio.Semaphore` does."""

    async def acquire(self) -> object:
        """Wait for a free slot and take it."""
        ...

    def release(self) -> None:
        """Give a slot back."""
        ...


class Held(Protocol):
    """Memory that a request is charged for while it is worked on."""

    def release(self) -> None:
        """Give the memory back: the work on the request is done."""
        ...


class OrderedStream(Generic[Request, Answer]):
    """Answers each request of a stream exactly once, in the order of the requests.

    A request is read when a slot is free; the transport's flow control holds the others back.
    """

    def __init__(
        self,
        handle: Callable[[Request], Awaitable[Answer]],
        write: Callable[[Answer], Awaitable[None]],
        slots: Slots,
        take: Optional[Callable[[], Held]] = None,
    ) -> None:
        """Take the work to do.

        Args:
            handle: turns a request into its answer; what it raises ends the stream.
            write: sends an answer.
            slots: one is taken from reading a request until its answer is sent.
            take: returns what the latest request holds.
        """
        self._handle = handle
        self._write = write
        self._slots = slots
        self._take = take
        self._answers: asyncio.Queue[Optional[asyncio.Task[Answer]]] = asyncio.Queue()

    async def run(self, requests: AsyncIterator[Request], *stops: Awaitable[object]) -> None:
        """Serve until the requests end or one of `stops` is done, and all requests are answered.

        Raises:
            Exception: whatever reading, handling or writing raised. What reading raised comes after
                the answers to all requests that were read before.
        """
        reader = asyncio.ensure_future(self._read(requests))
        stopper = asyncio.ensure_future(_cancel_after(reader, *stops))
        # However reading ends, the writer has to learn that no more requests follow.
        reader.add_done_callback(lambda _: self._answers.put_nowait(None))
        try:
            await self._write_answers()
            if not reader.cancelled():
                reader.result()
        finally:
            stopper.cancel()
            reader.cancel()
            await asyncio.gather(stopper, reader, *self._abandoned(), return_exceptions=True)

    async def _read(self, requests: AsyncIterator[Request]) -> None:
        while True:
            await self._slots.acquire()
            try:
                request = await requests.__anext__()
            except StopAsyncIteration:
                return
            answering = asyncio.ensure_future(self._handle(request))
            if self._take is not None:
                answering.add_done_callback(_releasing(self._take()))
            self._answers.put_nowait(answering)
            # The request may be large, and the next one may take long to come.
            del request

    async def _write_answers(self) -> None:
        while True:
            task = await self._answers.get()
            if task is None:
                return
            try:
                await self._write(await task)
            finally:
                task.cancel()
            self._slots.release()

    def _abandoned(self) -> List[asyncio.Task[Answer]]:
        """Cancel the work whose answers nobody will get: the peer is gone, or writing failed."""
        tasks = []
        while not self._answers.empty():
            task = self._answers.get_nowait()
            if task is not None:
                task.cancel()
                tasks.append(task)
        return tasks


def _releasing(held: Held) -> Callable[[object], None]:
    return lambda _: held.release()


async def _cancel_after(reader: asyncio.Future[None], *stops: Awaitable[object]) -> None:
    waits = [asyncio.ensure_future(stop) for stop in stops]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        reader.cancel()
    finally:
        for wait in waits:
            wait.cancel()
