"""A frame's way through a stage: prepared by a worker, executed, finished by a worker."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Generic,
    Hashable,
    Optional,
    Protocol,
    TypeVar,
    Union,
)

import numpy as np

from common.domain.errors import TandemError
from services.pipeline.runner import EngineRunner, Execution, Outcome
from services.pipeline.threads import TurnThreads

# Preparing the next frame overlaps with finishing the previous one.
WORKER_THREADS = 2
# For the steps under way to end, at shutdown.
_CLOSE_SECONDS = 0.5


class Prepared(Protocol):
    """What a worker makes of a request for the engine."""

    @property
    def tensors(self) -> Dict[str, np.ndarray]:
        """The engine's inputs by name."""
        ...


P = TypeVar("P", bound=Prepared)
R = TypeVar("R")


@dataclass(frozen=True)
class Slow(Generic[P]):
    """What a worker found too slow to do itself: other frames would wait for it."""

    prepare: Callable[[], P]


class FrameFlow:
    """Takes frames through the workers and the engine, each overlapping with the others' frames.

    A frame passes from thread to thread without the event loop, which only learns of its end: each
    turn of the loop would cost the frame a wait for the GIL. Streams take turns at every step. What
    is slow to prepare has a worker of its own.
    """

    def __init__(self, runner: EngineRunner, name: str) -> None:
        """Start the workers.

        Args:
            runner: of the engine.
            name: of the threads.
        """
        self._runner = runner
        self._workers = TurnThreads(WORKER_THREADS, name)
        self._slow_worker = TurnThreads(1, f"{name}-slow")
        self._lock = threading.Lock()
        # Of each stream, the frames that have not been passed on to the engine, as they came.
        self._coming: Dict[Hashable, Deque[_Passage[Any, Any]]] = {}

    async def run(
        self,
        stream: Hashable,
        prepare: Callable[[], Union[P, Slow[P]]],
        finish: Callable[[P, Execution], R],
    ) -> R:
        """Take one frame through; if the caller is cancelled, steps not yet begun are left out.

        Args:
            stream: that the frame is of.
            prepare: makes the engine's inputs, on a worker, or leaves that to the slow one.
            finish: makes the result of the execution, on a worker.

        Raises:
            Exception: whatever a step raised.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        passage = _Passage(stream, finish, answer)
        with self._lock:
            self._coming.setdefault(stream, deque()).append(passage)
        self._workers.submit((stream, "prepare"), partial(self._prepare, passage, prepare))
        try:
            return await answer
        finally:
            passage.is_wanted = False
            # An error is part of what it failed in; a cycle would keep the frame for long.
            del answer, passage

    def stuck_seconds(self, limit_seconds: float, slow_limit_seconds: float) -> float:
        """How long a worker has been at one frame, if that is over the limit, else 0."""
        busy, slow = self._workers.busy_seconds(), self._slow_worker.busy_seconds()
        return max(
            busy if busy > limit_seconds else 0.0, slow if slow > slow_limit_seconds else 0.0
        )

    def close(self) -> bool:
        """End the workers; no frame may be under way.

        Returns:
            Whether they ended; one that hangs is left to the end of the process.
        """
        ended = [each.close(_CLOSE_SECONDS) for each in (self._workers, self._slow_worker)]
        return all(ended)

    def _prepare(self, passage: _Passage[P, R], prepare: Callable[[], Union[P, Slow[P]]]) -> None:
        try:
            prepared = prepare() if passage.is_wanted else None
        except BaseException as error:
            passage.fail(error)
            prepared = None
        if isinstance(prepared, Slow):
            rest = prepared.prepare
            self._slow_worker.submit(passage.stream, lambda: self._prepare(passage, rest))
            return
        passage.prepared = prepared
        self._pass_on(passage)

    def _pass_on(self, done: _Passage[P, R]) -> None:
        """Give the engine what is ready, in the stream's order: two workers may swap frames."""
        stream = done.stream
        with self._lock:
            # In here: who is not ready yet is still in the queue, and keeps it from being removed.
            done.is_ready = True
            coming = self._coming[stream]
            while coming and coming[0].is_ready:
                passage = coming.popleft()
                if passage.prepared is not None:
                    self._execute(passage, passage.prepared)
            if not coming:
                del self._coming[stream]

    def _execute(self, passage: _Passage[P, R], prepared: P) -> None:
        def executed(outcome: Outcome) -> None:
            job = _finishing(passage, prepared, outcome)
            self._workers.submit((passage.stream, "finish"), job)

        self._runner.submit(passage.stream, prepared.tensors, executed, lambda: passage.is_wanted)


@dataclass
class _Passage(Generic[P, R]):
    """One frame under way.

    Attributes:
        is_wanted: becomes False when nobody waits for it any more.
        prepared: for the engine; None while it is not, or when it never will be.
        is_ready: whether a worker is done with it, however that went.
    """

    stream: Hashable
    finish: Callable[[P, Execution], R]
    answer: asyncio.Future[R]
    is_wanted: bool = True
    prepared: Optional[P] = None
    is_ready: bool = False

    def succeed(self, result: R) -> None:
        self._tell(lambda: self.answer.set_result(result))

    def fail(self, error: BaseException) -> None:
        if isinstance(error, TandemError):
            # Its traceback would keep what the steps had in hand, and nobody reads it.
            error.__cause__ = error.__context__ = error.__traceback__ = None
        self._tell(lambda: self.answer.set_exception(error))

    def _tell(self, settle: Callable[[], None]) -> None:
        def settle_if_waited_for() -> None:
            if not self.answer.done():
                settle()

        self.answer.get_loop().call_soon_threadsafe(settle_if_waited_for)


def _finishing(passage: _Passage[P, R], prepared: P, outcome: Outcome) -> Callable[[], None]:
    def job() -> None:
        if not passage.is_wanted:
            return
        if isinstance(outcome, BaseException):
            passage.fail(outcome)
            return
        try:
            result = passage.finish(prepared, outcome)
        except BaseException as error:
            passage.fail(error)
        else:
            passage.succeed(result)

    return job
