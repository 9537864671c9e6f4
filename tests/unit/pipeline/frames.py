"""An engine that runs when a test lets it, and frames that go straight to its thread."""

import asyncio
import threading
import time
from typing import Dict, List

import numpy as np

from common.domain.errors import EngineError


def numbered(number: int) -> Dict[str, np.ndarray]:
    return {"number": np.array([number], np.float32)}


class Gate:
    """An engine that runs when the test lets it; remembers what it ran."""

    description = "gate"

    def __init__(self) -> None:
        self.ran: List[int] = []
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)

    def run(self, inputs):
        number = int(inputs["number"][0])
        self.entered.release()
        self.leave.acquire()
        if number < 0:
            raise EngineError("negative")
        self.ran.append(number)
        return inputs

    async def is_entered(self) -> None:
        """Wait until the next execution has begun."""
        await asyncio.get_running_loop().run_in_executor(None, self.entered.acquire)

    def let(self, count: int) -> None:
        """Let this many executions end."""
        for _ in range(count):
            self.leave.release()

    def close(self) -> None:
        pass


class Frame:
    """One frame; `outcome` is what the engine makes of it, or what it raises."""

    def __init__(self, engine, stream, tensors, is_ready=True) -> None:
        self.stream = stream
        self.tensors = tensors
        self.ready_at = None
        self.is_wanted = True
        self.outcome = asyncio.get_running_loop().create_future()
        self._engine = engine
        engine.expect(self)
        if is_ready:
            self.get_ready()

    def get_ready(self) -> None:
        self.ready_at = time.perf_counter()
        self._engine.execute_ready()

    def executed(self, outcome, *, others_wait) -> None:
        self.outcome.get_loop().call_soon_threadsafe(self.outcome.set_result, outcome)
