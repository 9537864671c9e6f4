"""One frame's passage through a stage: a worker prepares it, the engine runs, a worker finishes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Callable, Dict, Generic, Hashable, Optional, Union

import numpy as np

from common.domain.detections import StageTiming
from common.domain.errors import PreconditionError, TandemError
from services.pipeline.batches import frames_worth_batching
from services.pipeline.core import Frame, Inputs, Options, Result, Slow, StageCore
from services.pipeline.engine_thread import EngineThread
from services.pipeline.strand import Strand, Told
from services.pipeline.waiting_frames import BatchLimits, ExecutedFrame, Outcome
from services.pipeline.workers import Workers


class Pipeline(Generic[Frame, Inputs, Options, Result]):
    """Takes the frames of many streams through one stage; steps of different frames overlap.

    Streams take turns at the workers and at the engine. A worker of its own prepares the frames for
    which that is slow.

    Attributes:
        stage: what is done to a frame before and after the engine.
        engine: the thread that executes frames.
        node: name of the device, for the frames' timing.
        workers: the threads that prepare and finish frames.
    """

    def __init__(
        self,
        stage: StageCore[Frame, Inputs, Options, Result],
        engine: EngineThread,
        node: str,
        workers: Workers,
    ) -> None:
        """Take frames through `stage`; the caller loads and closes `engine`, and the workers."""
        self.stage = stage
        self.engine = engine
        self.node = node
        self.workers = workers

    def require_able(self) -> None:
        """Refuse a stream whose frames the engine could never execute.

        Raises:
            PreconditionError: it cannot run this half; the sentence names the operator.
        """
        if self.engine.unable:
            raise PreconditionError(self.engine.unable)

    def strand(self, stream: Hashable) -> Strand:
        """A new strand of a stream on the workers, for `run`."""
        return Strand(self.workers.usual, (stream, "in order"))

    def begin(
        self,
        stream: Hashable,
        frame: Frame,
        options: Options,
        tell: Told[Result],
        *,
        preparing: Optional[Strand] = None,
        finishing: Optional[Strand] = None,
    ) -> FramePassage[Frame, Inputs, Options, Result]:
        """Begin to take one frame through the stage; called on the event loop, and does not wait.

        Args:
            stream: the stream that the frame is of.
            frame: what the stage prepares.
            options: what the stream asked for.
            tell: is told on the event loop what was made of the frame, or what was raised: a
                TandemError where it cannot be served or the engine failed, or whatever it was.
            preparing: on which the frame is prepared, if that depends on the frame before.
            finishing: on which the frame is finished, if that does.

        Returns:
            Its passage, which skips the steps that have not begun once nobody wants the frame.
        """
        passage = FramePassage(*(self, stream, frame, options), tell=tell, finishing=finishing)
        is_lone = self.engine.is_idle
        # It gets its place in the stream's order now, because workers may swap frames.
        self.engine.expect(passage)
        if preparing is not None:
            preparing.submit(passage.prepare)
        elif is_lone and self.stage.prepares_quickly:
            # Waking a worker first, and by it the engine's thread, would take longer.
            self.engine.prepare_here(passage.prepare)
        else:
            self.workers.usual.submit((stream, "prepare"), passage.prepare)
        return passage

    async def warm_up(self) -> None:
        """Execute all that a frame may need once, at the usual size.

        The first time plans memory and may tune kernels.

        Raises:
            EngineError: the execution failed.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.stage.start)
        # Large arrays: frames of another bundle go on meanwhile.
        for tensors in await loop.run_in_executor(None, self.stage.typical_tensors):
            await self.engine.test(tensors)

    async def allow_batches(self, limits: BatchLimits) -> None:
        """Execute frames together within `limits`, if measuring shows a gain; the log says so.

        Raises:
            EngineError: the engine fails on a single frame.
        """
        if limits.frames > 1:
            loop = asyncio.get_running_loop()
            tensors, *_ = await loop.run_in_executor(None, self.stage.typical_tensors)
            frames = await frames_worth_batching(self.engine, tensors, limits.frames)
            self.engine.limits = replace(limits, frames=frames)

    def stuck_seconds(self) -> float:
        """How long a worker has been at one frame if that is far too long, else 0."""
        limits = self.stage.stuck_after_seconds()
        usual = max(self.workers.usual.busy_seconds(), self.engine.preparing_seconds())
        busy = (usual, self.workers.slow.busy_seconds())
        return max(now if now > limit else 0.0 for now, limit in zip(busy, limits))


class FramePassage(Generic[Frame, Inputs, Options, Result]):
    """One frame under way through a pipeline; its methods stand in the order of their calls.

    Each is called on another thread than the one before, and hands the passage on to the next. The
    event loop has no part in that and only learns of the end: each turn of the loop would cost the
    frame a wait for the GIL.

    Attributes:
        stream: the stream that the frame is of.
        is_wanted: set to False when nobody waits for the answer any more.
        ready_at: when the engine's inputs became ready, by `time.perf_counter`; None before.
    """

    def __init__(
        self,
        pipeline: Pipeline[Frame, Inputs, Options, Result],
        stream: Hashable,
        frame: Frame,
        options: Options,
        *,
        tell: Told[Result],
        finishing: Optional[Strand],
    ) -> None:
        """Made on the event loop, which gets the answer."""
        self._pipeline = pipeline
        self._finishing = finishing
        self._told = tell
        self.stream = stream
        self._make: Callable[[], Union[Inputs, Slow[Inputs]]]
        self._make = partial(pipeline.stage.prepare, frame)
        self._options = options
        self._began = time.perf_counter()
        self.is_wanted = True
        self._inputs: Optional[Inputs] = None
        self.ready_at: Optional[float] = None
        self._outcome: Optional[Outcome] = None
        self._loop = asyncio.get_running_loop()

    def prepare(self) -> None:
        """Make the engine's inputs, or leave that to the worker for what is slow.

        On a worker; of a lone frame that is prepared quickly, on the engine's thread.
        """
        inputs: Union[Inputs, Slow[Inputs], None] = None
        try:
            if self.is_wanted:
                inputs = self._make()
        except BaseException as error:
            self._fail(error)
        # The frame itself may be large, and is not needed any more.
        del self._make
        if isinstance(inputs, Slow):
            self._make = inputs.prepare
            self._pipeline.workers.slow.submit(self.stream, self.prepare)
        elif inputs is None:
            self._pipeline.engine.withdraw(self)
        else:
            self._inputs = inputs
            self.ready_at = time.perf_counter()
            self._pipeline.engine.execute_ready()

    @property
    def tensors(self) -> Dict[str, np.ndarray]:
        """On the engine's thread: its inputs by name."""
        return self._pipeline.stage.engine_inputs(self._prepared(), self._options)

    def executed(self, outcome: Outcome, *, others_wait: bool) -> None:
        """On the engine's thread: have a worker finish with what the engine made of the frame.

        That of a lone frame is this thread, which has nothing else to do: waking another one would
        take longer than most frames' finish.
        """
        self._outcome = outcome
        if self._finishing is not None:
            self._finishing.submit(self.finish)
        elif not others_wait:
            self.finish()
        else:
            self._pipeline.workers.usual.submit((self.stream, "finish"), self.finish)

    def finish(self) -> None:
        """On a worker, or the engine's thread: make the result, and tell who waits for it."""
        if not self.is_wanted:
            return
        if isinstance(self._outcome, ExecutedFrame):
            try:
                result = self._finish(self._outcome)
            except BaseException as error:
                self._fail(error)
            else:
                self._tell(result, None)
        elif self._outcome is not None:
            self._fail(self._outcome)

    def _finish(self, executed: ExecutedFrame) -> Result:
        inputs = self._prepared()
        timing = StageTiming(
            node=self._pipeline.node,
            decode_seconds=inputs.decode_seconds,
            preprocess_seconds=inputs.preprocess_seconds,
            queue_seconds=executed.queue_seconds,
            execute_seconds=executed.execute_seconds,
            execute_after_seconds=executed.started - self._began,
        )
        return self._pipeline.stage.finish(inputs, executed.outputs, self._options, timing)

    def _prepared(self) -> Inputs:
        if self._inputs is None:
            raise ValueError("the frame is not prepared")
        return self._inputs

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, TandemError):
            # Its traceback would keep what the steps had in hand, and nobody reads it.
            error.__cause__ = error.__context__ = error.__traceback__ = None
        self._tell(None, error)

    def _tell(self, result: Optional[Result], error: Optional[BaseException]) -> None:
        self._loop.call_soon_threadsafe(self._told, result, error)
