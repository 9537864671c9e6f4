"""The one thread that an engine is loaded, run and closed on."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import defaultdict, deque
from dataclasses import replace
from typing import Callable, DefaultDict, Deque, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import structlog

from common.domain.errors import EngineError, UnavailableError, UnsupportedGraphError
from common.engines.base import Engine
from services.pipeline.batches import put_together, taken_apart
from services.pipeline.execution_turn import ExecutionTurn, Place
from services.pipeline.turns import TurnThreads
from services.pipeline.waiting_frames import BatchLimits, EngineFrame, ExecutedFrame, WaitingFrames

log = structlog.get_logger()

# An execution counts as stuck when it takes longer than so many seconds, and longer than so many
# times the median of those before it.
STUCK_SECONDS = 10.0
STUCK_MEDIANS = 50
_RECENT_EXECUTIONS = 51
# The first execution of a batch of some size may take so much longer, because it may tune kernels.
_TUNING_SECONDS = 60.0
# How long the shutdown waits for the execution that is running.
CLOSE_SECONDS = 1.0


class EngineThread:
    """Executes frames in turn, one or a batch at a time; each stream keeps its own order.

    pycuda's context belongs to the thread that made it. A GPU, or a CPU engine with threads of its
    own, works best with one execution at a time.

    Attributes:
        place: at the turn that the engines of one device take.
        limits: how many frames are executed together.
        failures_in_a_row: how many frames have failed since the last one that did not.
        out_of_service: why no frame is executed; empty while frames are executed.
        unable: why this engine can never execute what it was last told to load; empty if it can.
        on_failure: is called on the engine's thread after each frame that failed.
        on_executed: is called on the engine's thread with the number of frames of each execution.
    """

    def __init__(
        self,
        stuck_after_seconds: float = STUCK_SECONDS,
        turn: Optional[ExecutionTurn] = None,
    ) -> None:
        """Start the thread; `load` gives it an engine.

        Args:
            stuck_after_seconds: no execution counts as stuck before this time.
            turn: is taken for each execution of frames, but not for `test` and `measure`, which
                may tune kernels for minutes; None: no other engine wants the device.
        """
        self._stuck_after_seconds = stuck_after_seconds
        self.place = Place(ExecutionTurn() if turn is None else turn)
        self._thread = TurnThreads(1, "engine")
        self._frames = WaitingFrames()
        self._engine: Optional[Engine] = None
        self.limits = BatchLimits()
        self.failures_in_a_row = 0
        self.out_of_service = ""
        self.unable = ""
        self.on_failure: Callable[[], None] = lambda: None
        self.on_executed: Callable[[int], None] = lambda frames: None
        # When the current execution began, and its number of frames.
        self._running: Optional[Tuple[float, int]] = None
        self._preparing_since: Optional[float] = None
        self._recent_seconds: DefaultDict[int, Deque[float]] = defaultdict(_recent)

    async def load(self, load: Callable[[], Engine]) -> Engine:
        """Load the engine on its thread; an engine that was loaded before is closed first.

        Raises:
            UnsupportedGraphError: the engine can never run it; `unable` then says why.
            EngineError: the file cannot be loaded.
            ConfigurationError: the engine is unknown or not installed.
        """

        def load_anew() -> Engine:
            self._release()
            self.unable = ""
            try:
                self._engine = load()
            except UnsupportedGraphError as error:
                self.unable = str(error)
                raise
            return self._engine

        return await self._thread.call(load_anew)

    def expect(self, frame: EngineFrame) -> None:
        """Give a frame its place behind the earlier ones of its stream, before it is ready."""
        self._frames.put(frame)

    def execute_ready(self) -> None:
        """Have the thread execute the expected frames that are ready, each in its turn."""
        self._frames.note_ready()
        self._thread.submit("frames", self._execute_next)

    @property
    def is_idle(self) -> bool:
        """Whether no frame is expected and nothing is executed."""
        return not self._frames and self._thread.is_idle

    def prepare_here(self, prepare: Callable[[], None]) -> None:
        """Have the thread prepare an expected frame itself, before it executes it."""

        def prepare_timed() -> None:
            self._preparing_since = time.perf_counter()
            prepare()
            self._preparing_since = None

        self._thread.submit("frames", prepare_timed)

    def preparing_seconds(self) -> float:
        """How long the thread has been preparing a frame; 0 if it is not."""
        since = self._preparing_since
        return 0.0 if since is None else time.perf_counter() - since

    def withdraw(self, frame: EngineFrame) -> None:
        """An expected frame will never be ready."""
        self._frames.remove(frame)
        self.execute_ready()

    async def test(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Execute one frame, whether or not the engine is in service.

        Raises:
            EngineError: the execution failed, or no engine is loaded.
        """
        await self.measure(inputs, 1)

    async def measure(self, inputs: Mapping[str, np.ndarray], frames: int) -> float:
        """Execute once, whether or not the engine is in service; returns how long that took.

        Args:
            inputs: of one frame, or of several that were put together.
            frames: how many frames these are.

        Raises:
            EngineError: the execution failed, its outputs are not of so many frames, or no engine
                is loaded.
        """
        asked = time.perf_counter()

        outcome = await self._thread.call(lambda: self._outcome([asked] * frames, inputs))
        if isinstance(outcome, BaseException):
            raise outcome
        return sum(frame.execute_seconds for frame in outcome)

    def stuck_seconds(self) -> float:
        """How long the current execution has been running if that is far too long, else 0.

        The very first execution has no limit, because it plans memory and may tune kernels.
        """
        running = self._running
        if running is None:
            return 0.0
        began, frames = running
        elapsed, limit = time.perf_counter() - began, self._limit_seconds(frames)
        return elapsed if elapsed > limit else 0.0

    def _limit_seconds(self, frames: int) -> float:
        recent, singles = list(self._recent_seconds[frames]), list(self._recent_seconds[1])
        if recent:
            return max(self._stuck_after_seconds, STUCK_MEDIANS * statistics.median(recent))
        if singles:
            usual_seconds = frames * statistics.median(singles)
            return max(self._stuck_after_seconds, STUCK_MEDIANS * usual_seconds) + _TUNING_SECONDS
        return math.inf

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
        """Execute the frames whose turn it is; this and what follows is on the engine's thread."""
        frames = self._frames.take(self.limits)
        if not frames:
            return
        if self._frames:
            # The next frames of their streams may have been ready before them.
            self.execute_ready()
        try:
            self._execute_all(frames)
            # A frame of the bundle that replaces this one waits, and is younger than the next one.
            while frames and self.place.has_turn:
                frames = self._frames.take(replace(self.limits, wait_seconds=0.0))
                self._execute_all(frames)
        finally:
            self.place.leave()

    def _execute_all(self, frames: Sequence[EngineFrame]) -> None:
        wanted = [frame for frame in frames if frame.is_wanted]
        if len(wanted) > 1 and not self.out_of_service:
            self._execute_together(wanted)
        else:
            for frame in wanted:
                self._execute(frame)

    def _execute_together(self, frames: Sequence[EngineFrame]) -> None:
        """Execute a batch; if it fails, execute each frame alone, so that only bad ones fail."""
        inputs = put_together([frame.tensors for frame in frames])
        outcome = self._outcome_in_turn([frame.ready_at or 0.0 for frame in frames], inputs)
        if isinstance(outcome, BaseException):
            log.warning("batch failed", frames=len(frames), error=str(outcome))
            if all([self._execute(frame) for frame in frames]):
                # The frames are good, so the batch is too large, such as for the engine's memory.
                self.limits = replace(self.limits, frames=len(frames) // 2)
                log.warning("batches are made smaller", frames=self.limits.frames)
            return
        self.failures_in_a_row = 0
        self.on_executed(len(frames))
        for frame, executed in zip(frames, outcome):
            frame.executed(executed, others_wait=True)

    def _execute(self, frame: EngineFrame) -> bool:
        """Execute one frame; returns whether that went well."""
        reason = self.unable or self.out_of_service
        if reason:
            frame.executed(UnavailableError(reason), others_wait=True)
            return False
        outcome = self._outcome_in_turn([frame.ready_at or 0.0], frame.tensors)
        failed = isinstance(outcome, BaseException)
        self.failures_in_a_row = self.failures_in_a_row + 1 if failed else 0
        self._frames.note_outcome(frame.stream, failed=failed)
        # Before the answer, so that whoever has it finds what it changed.
        if failed:
            self.on_failure()
        else:
            self.on_executed(1)
        frame.executed(
            outcome if isinstance(outcome, BaseException) else outcome[0],
            others_wait=bool(self._frames),
        )
        return not failed

    def _outcome_in_turn(
        self, ready_at: Sequence[float], inputs: Mapping[str, np.ndarray]
    ) -> Union[List[ExecutedFrame], BaseException]:
        self.place.take(min(ready_at))
        try:
            return self._outcome(ready_at, inputs)
        finally:
            self.place.pass_on(self._frames.ready_since)

    def _outcome(
        self, ready_at: Sequence[float], inputs: Mapping[str, np.ndarray]
    ) -> Union[List[ExecutedFrame], BaseException]:
        """Execute frames that became ready at these times; returns what the engine raises."""
        if self._engine is None:
            return EngineError("no engine is loaded")
        count, began = len(ready_at), time.perf_counter()
        self._running = (began, count)
        try:
            outputs = self._engine.run(inputs)
            parts = [outputs] if count == 1 else taken_apart(outputs, count)
        except BaseException as error:
            return error
        finally:
            self._running = None
        elapsed = time.perf_counter() - began
        self._recent_seconds[count].append(elapsed)
        share = elapsed / count
        started = began + elapsed - share
        return [
            ExecutedFrame(part, started, started - ready, share)
            for part, ready in zip(parts, ready_at)
        ]

    def _release(self) -> None:
        """Close the engine, if there is one; on the engine's thread."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        try:
            engine.close()
        except Exception:
            # After a sticky error of its device no call works, and nothing can be done about it.
            log.warning("the engine failed to close", exc_info=True)


def _recent() -> Deque[float]:
    return deque(maxlen=_RECENT_EXECUTIONS)
