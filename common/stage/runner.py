"""Runs an engine on a thread of its own."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable, Dict, Mapping, Optional

import numpy as np

from common.domain.errors import EngineError
from common.engines.base import Engine


@dataclass(frozen=True)
class Execution:
    """What one execution gave, and when.

    Attributes:
        outputs: arrays by output name.
        started: when it began, by `time.perf_counter`.
        queue_seconds: from asking to the start of the execution.
        execute_seconds: in the engine.
    """

    outputs: Dict[str, np.ndarray]
    started: float
    queue_seconds: float
    execute_seconds: float


class EngineRunner:
    """The one thread that loads, runs and closes an engine.

    pycuda's context belongs to the thread that made it, and one execution at a time is what a
    GPU, or a CPU engine with threads of its own, does best. Executions run in the order asked.
    """

    def __init__(self) -> None:
        """Start the thread; the engine comes with `load`."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        # Waking the event loop gives the GIL away; were it the engine's thread that does so, the
        # next execution would wait until the loop is done.
        self._delivery = ThreadPoolExecutor(1, thread_name_prefix="delivery")
        self._engine: Optional[Engine] = None

    async def load(self, load: Callable[[], Engine]) -> Engine:
        """Load the engine on its thread.

        Raises:
            EngineError: the file cannot be loaded.
            ConfigurationError: the engine is unknown or not installed.
        """
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(self._thread, load)
        self._engine = engine
        return engine

    async def run(self, inputs: Mapping[str, np.ndarray]) -> Execution:
        """Execute once, after what was asked before.

        Raises:
            EngineError: execution failed, or no engine is loaded.
        """
        if self._engine is None:
            raise EngineError("no engine is loaded")
        asked = time.perf_counter()
        answer: Future[Execution] = Future()
        self._thread.submit(self._execute, self._engine, inputs, asked, answer)
        return await asyncio.wrap_future(answer)

    async def close(self) -> None:
        """Release the engine on its thread, then end the thread."""
        if self._engine is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._engine.close)
        self._thread.shutdown()
        self._delivery.shutdown()

    def _execute(
        self,
        engine: Engine,
        inputs: Mapping[str, np.ndarray],
        asked: float,
        answer: Future[Execution],
    ) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        started = time.perf_counter()
        try:
            outputs = engine.run(inputs)
        except BaseException as error:
            self._delivery.submit(answer.set_exception, error)
        else:
            elapsed = time.perf_counter() - started
            execution = Execution(outputs, started, started - asked, elapsed)
            self._delivery.submit(answer.set_result, execution)
