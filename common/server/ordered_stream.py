"""The loop of every stream: reads requests, works on several at a time, answers them in order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import (
    AsyncIterator,
    Awaitable,
    Callable,
    Deque,
    Generic,
    List,
    Optional,
    Protocol,
    TypeVar,
)

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


class PendingAnswer(Generic[Answer]):
    """The place of one request's answer among those of its stream.

    Whoever works on the request calls `settle` or `fail` once, at any time and without waiting; or
    leaves that to a task, by `follow`.

    Attributes:
        is_settled: whether the answer, or what was raised instead, is there.
        on_settled: called as soon as it is.
    """

    __slots__ = ("_answer", "_error", "_held", "_task", "is_settled", "on_settled")

    def __init__(self, held: Optional[Held] = None) -> None:
        """Begin without an answer; `held` is released as soon as there is one."""
        self.is_settled = False
        self.on_settled: Callable[[], None] = _nobody_waits
        self._held = held
        self._answer: Optional[Answer] = None
        self._error: Optional[BaseException] = None
        self._task: Optional[asyncio.Future[Answer]] = None

    def settle(self, answer: Answer) -> None:
        """This is the answer; another one that comes later is left aside."""
        self._settle(answer, None)

    def fail(self, error: BaseException) -> None:
        """There is no answer: the stream ends with this error when it would be written."""
        self._settle(None, error)

    def follow(self, work: Awaitable[Answer]) -> None:
        """Have a task work on the request; what it returns is the answer."""
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(self._followed)

    def result(self) -> Answer:
        """The answer, which is there.

        Raises:
            BaseException: what `fail` was told, or the task raised.
        """
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]

    def abandon(self) -> List[asyncio.Future[Answer]]:
        """Give the work up: nobody will get its answer. Returns the tasks to wait for."""
        if self._task is None:
            self.fail(asyncio.CancelledError())
            return []
        self._task.cancel()
        return [self._task]

    def _followed(self, task: asyncio.Future[Answer]) -> None:
        if task.cancelled():
            self.fail(asyncio.CancelledError())
        elif task.exception() is not None:
            self._settle(None, task.exception())
        else:
            self.settle(task.result())

    def _settle(self, answer: Optional[Answer], error: Optional[BaseException]) -> None:
        if self.is_settled:
            return
        self.is_settled = True
        self._answer, self._error = answer, error
        if self._held is not None:
            self._held.release()
        self.on_settled()


class OrderedAnswers(Generic[Request, Answer]):
    """Answers each request of a stream exactly once, in the order of the requests.

    A request is read when a slot is free; the transport's flow control holds the others back.
    """

    def __init__(
        self,
        begin: Callable[[Request], PendingAnswer[Answer]],
        write: Callable[[Answer], Awaitable[None]],
        slots: Slots,
    ) -> None:
        """Take the work to do.

        Args:
            begin: begins to work on a request, without waiting; what it raises ends the stream
                after the answers to the requests before.
            write: sends an answer.
            slots: one is taken from reading a request until its answer is sent.
        """
        self._begin = begin
        self._write = write
        self._slots = slots
        # In the order of the requests.
        self._pending: Deque[PendingAnswer[Answer]] = deque()
        self._all_read = False
        self._writer: Optional[asyncio.Future[None]] = None

    async def run(self, requests: AsyncIterator[Request], *stops: Awaitable[object]) -> None:
        """Serve until the requests end or one of `stops` is done, and all requests are answered.

        Raises:
            Exception: whatever reading, handling or writing raised. What reading raised comes after
                the answers to all requests that were read before.
        """
        reader = asyncio.ensure_future(self._read(requests))
        stopper = asyncio.ensure_future(_cancel_after(reader, *stops))
        # However reading ends, the writer has to learn that no more requests follow.
        reader.add_done_callback(self._note_all_read)
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
            pending = self._begin(request)
            pending.on_settled = self._look
            self._pending.append(pending)
            if pending.is_settled:
                self._look()
            # The request may be large, and the next one may take long to come.
            del request, pending

    async def _write_answers(self) -> None:
        pending = self._pending
        while True:
            while pending and pending[0].is_settled:
                await self._write(pending.popleft().result())
                self._slots.release()
            if self._all_read and not pending:
                return
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def _look(self) -> None:
        """Wake the writer, if it waits and there is something for it to do."""
        writer, pending = self._writer, self._pending
        if writer is None or writer.done():
            return
        if pending[0].is_settled if pending else self._all_read:
            writer.set_result(None)

    def _note_all_read(self, reader: object) -> None:
        self._all_read = True
        self._look()

    def _abandoned(self) -> List[asyncio.Future[Answer]]:
        """Give up the work whose answers nobody will get: the peer is gone, or writing failed."""
        tasks: List[asyncio.Future[Answer]] = []
        while self._pending:
            tasks += self._pending.popleft().abandon()
        return tasks


class OrderedStream(OrderedAnswers[Request, Answer]):
    """The same, where a task of its own works on each request."""

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

        def begin(request: Request) -> PendingAnswer[Answer]:
            pending: PendingAnswer[Answer] = PendingAnswer(None if take is None else take())
            pending.follow(handle(request))
            return pending

        super().__init__(begin, write, slots)


def _nobody_waits() -> None:
    """The answer has no place among others yet."""


async def _cancel_after(reader: asyncio.Future[None], *stops: Awaitable[object]) -> None:
    waits = [asyncio.ensure_future(stop) for stop in stops]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        reader.cancel()
    finally:
        for wait in waits:
            wait.cancel()
