"""The one thread that an engine is loaded, run and closed on."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, Dict, Hashable, List, Mapping, Optional, Protocol, Union

import numpy as np
import structlog

from common.domain.errors import EngineError, UnavailableError
from common.engines.base import Engine
from services.pipeline.turns import Turns, TurnThreads

log = structlog.get_logger()

# An execution that takes longer than both is taken for stuck.
STUCK_SECONDS = 10.0
STUCK_MEDIANS = 50
_RECENT_EXECUTIONS = 51
# For the execution under way to end, at shutdown.
CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class ExecutedFrame:
    """What the engine made of one frame, and when.

    Attributes:
        outputs: arrays by output name.
        started: when the execution began, by `time.perf_counter`.
        queue_seconds: from being ready to the start of the execution.
        execute_seconds: in the engine.
    """

    outputs: Dict[str, np.ndarray]
    started: float
    queue_seconds: float
    execute_seconds: float


Outcome = Union[ExecutedFrame, BaseException]


class EngineFrame(Protocol):
    """A frame on its way to the engine and from there."""

    @property
    def stream(self) -> Hashable:
        """Whose turn it takes."""
        ...

    @property
    def tensors(self) -> Mapping[str, np.ndarray]:
        """The engine's inputs by name."""
        ...

    @property
    def ready_at(self) -> Optional[float]:
        """Since when the tensors are there, by `time.perf_counter`; None: they are not yet."""
        ...

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it; if not, it is left out when its turn comes."""
        ...

    def executed(self, outcome: Outcome) -> None:
        """Take what the engine made of it, or what that raised; on the engine's thread.

        The next execution waits for this, so it must neither take time nor make a system call,
        which would give the GIL away.
        """
        ...


class EngineThread:
    """Executes frames one after another; streams take turns, and each keeps the order of its own.

    pycuda's context belongs to the thread that made it, and one execution at a time is what a
    GPU, or a CPU engine with threads of its own, does best.

    Attributes:
        failures_in_a_row: executions of frames that failed since the latest that did not.
        out_of_service: why no frame is executed; empty while frames are.
        on_failure: called, on the engine's thread, after each execution that failed.
    """

    def __init__(self, stuck_after_seconds: float = STUCK_SECONDS) -> None:
        """Start the thread; the engine comes with `load`.

        Args:
            stuck_after_seconds: the least that an execution takes which is said to be stuck.
        """
        self._stuck_after_seconds = stuck_after_seconds
        self._thread = TurnThreads(1, "engine")
        self._frames: Turns[EngineFrame] = Turns()
        self._engine: Optional[Engine] = None
        self.failures_in_a_row = 0
        self.out_of_service = ""
        self.on_failure: Callable[[], None] = lambda: None
        self._running_since: Optional[float] = None
        self._recent_seconds: Deque[float] = deque(maxlen=_RECENT_EXECUTIONS)

    async def load(self, load: Callable[[], Engine]) -> Engine:
        """Load the engine on its thread, in the place of the one loaded before if there is one.

        Raises:
            EngineError: the file cannot be loaded.
            ConfigurationError: the engine is unknown or not installed.
        """

        def replace() -> Engine:
            self._release()
            self._engine = load()
            return self._engine

        return await self._thread.call(replace)

    def expect(self, frame: EngineFrame) -> None:
        """Keep a place for a frame behind those of its stream, whichever is ready first."""
        self._frames.put(frame.stream, frame)

    def execute_ready(self) -> None:
        """Execute the expected frames that have become ready, when their turns have come."""
        self._thread.submit("frames", self._execute_next)

    def withdraw(self, frame: EngineFrame) -> None:
        """An expected frame will never be ready."""
        self._frames.remove(frame.stream, frame)
        self.execute_ready()

    async def test(self, inputs: Mapping[str, np.ndarray]) -> ExecutedFrame:
        """Execute once, be the engine in service or not.

        Raises:
            EngineError: the execution failed, or no engine is loaded.
        """
        asked = time.perf_counter()
        outcome = await self._thread.call(lambda: self._outcome(inputs, asked))
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def stuck_seconds(self) -> float:
        """How long the present execution has been running if that is far too long, else 0.

        The first one has no limit: it plans memory and may tune kernels.
        """
        since, recent = self._running_since, list(self._recent_seconds)
        if since is None or not recent:
            return 0.0
        elapsed = time.perf_counter() - since
        limit = max(self._stuck_after_seconds, STUCK_MEDIANS * statistics.median(recent))
        return elapsed if elapsed > limit else 0.0

    async def close(self, timeout_seconds: float = CLOSE_SECONDS) -> bool:
        """Release the engine on its thread, then end the thread.

        Args:
            timeout_seconds: how long to wait for the execution under way, if there is one.

        Returns:
            Whether that was done; an engine that hangs is left to the end of the process.
        """
        released = asyncio.ensure_future(self._thread.call(self._release))
        done, _ = await asyncio.wait([released], timeout=timeout_seconds)
        if not done:
            released.cancel()
            log.error("the engine hangs and is left behind")
        return self._thread.close(timeout_seconds if done else 0.0) and bool(done)

    def _execute_next(self) -> None:
        frames = self._frames.take(fits=_is_ready)
        for frame in frames:
            # Those behind it may have become ready before it.
            self.execute_ready()
            if frame.is_wanted:
                self._execute(frame)

    def _execute(self, frame: EngineFrame) -> None:
        if self.out_of_service:
            frame.executed(UnavailableError(self.out_of_service))
            return
        outcome = self._outcome(frame.tensors, frame.ready_at or 0.0)
        failed = isinstance(outcome, BaseException)
        self.failures_in_a_row = self.failures_in_a_row + 1 if failed else 0
        frame.executed(outcome)
        if failed:
            self.on_failure()

    def _outcome(self, inputs: Mapping[str, np.ndarray], asked: float) -> Outcome:
        if self._engine is None:
            return EngineError("no engine is loaded")
        started = time.perf_counter()
        self._running_since = started
        try:
            outputs = self._engine.run(inputs)
        except BaseException as error:
            return error
        finally:
            self._running_since = None
        elapsed = time.perf_counter() - started
        self._recent_seconds.append(elapsed)
        return ExecutedFrame(outputs, started, started - asked, elapsed)

    def _release(self) -> None:
        """Close the engine, if there is one; on the engine's thread."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        try:
            engine.close()
        except Exception:
            # After a sticky error of its device nothing works, and its end is no more to be mended.
            log.warning("the engine failed to close", exc_info=True)


def _is_ready(frame: EngineFrame, taken: List[EngineFrame]) -> bool:
    return frame.ready_at is not None
