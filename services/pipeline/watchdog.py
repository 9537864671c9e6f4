"""Watches a stage for an engine that fails or hangs and for workers that hang, and tells health."""

from __future__ import annotations

import asyncio
from typing import Awaitable, Callable, Optional, Sequence

import structlog

from common.domain.errors import UnsupportedGraphError
from services.pipeline.engine_thread import EngineThread

log = structlog.get_logger()

INTERVAL_SECONDS = 1.0
# When so many frames fail in a row, the engine is tested with inputs that are known to be good; if
# it fails on these as well, it is at fault.
MOST_FAILURES_IN_A_ROW = 3
# How long to wait before each attempt to reload an engine; the last wait is repeated.
RELOAD_WAITS_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

# Is told why the stage cannot serve, and the empty string when it can.
Tell = Callable[[str], Awaitable[None]]


class Watchdog:
    """Looks after one stage's engine and workers.

    A thread that hangs cannot be ended from outside. The watchdog then says that the stage cannot
    serve, so that frames go elsewhere and the supervisor of the process restarts it. An engine that
    fails is reloaded and tested until it computes again, or says that it never can.
    """

    def __init__(
        self,
        engine: EngineThread,
        *,
        reload: Callable[[], Awaitable[None]],
        test: Callable[[], Awaitable[None]],
        tell: Tell,
        workers_stuck_seconds: Callable[[], float] = lambda: 0.0,
        interval_seconds: float = INTERVAL_SECONDS,
        reload_waits_seconds: Sequence[float] = RELOAD_WAITS_SECONDS,
    ) -> None:
        """Watch nothing yet.

        Args:
            engine: to be watched.
            reload: loads the engine again.
            test: executes inputs that are known to be good; raises if that fails.
            tell: is told why the stage cannot serve, and the empty string once it can again.
            workers_stuck_seconds: returns how long a worker has been hanging; 0 if none is.
            interval_seconds: time between two checks for threads that hang.
            reload_waits_seconds: how long to wait before each attempt to reload; the last wait is
                repeated.
        """
        self._engine = engine
        self._reload = reload
        self._test = test
        self._tell = tell
        self._workers_stuck_seconds = workers_stuck_seconds
        self._interval_seconds = interval_seconds
        self._reload_waits_seconds = reload_waits_seconds

    async def run(self) -> None:
        """Watch until cancelled."""
        failed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def note_failure() -> None:
            loop.call_soon_threadsafe(failed.set)

        self._engine.on_failure = note_failure
        told = ""
        try:
            while True:
                await _wait(failed, self._interval_seconds)
                failed.clear()
                hanging = self._hanging()
                if hanging != told:
                    told = hanging
                    log.error("stage watched", hanging=hanging or "no more")
                    await self._tell(hanging)
                if not hanging and self._engine.failures_in_a_row >= MOST_FAILURES_IN_A_ROW:
                    await self._recover()
        finally:
            self._engine.on_failure = lambda: None

    def _hanging(self) -> str:
        if self._engine.stuck_seconds() > 0:
            return "an execution of its engine hangs"
        if self._workers_stuck_seconds() > 0:
            return "one of its workers hangs"
        return ""

    async def _recover(self) -> None:
        """Find out whether the engine is at fault, and if so reload it until it computes.

        Frames that arrive meanwhile are refused, so that they go elsewhere at once.
        """
        count = self._engine.failures_in_a_row
        test = asyncio.ensure_future(self._fault())
        try:
            while not test.done():
                await asyncio.wait([test], timeout=self._interval_seconds)
                if self._hanging():
                    # The engine hangs in the test, which `run` has to tell first.
                    return
        finally:
            test.cancel()
        fault = test.result()
        if fault is None:
            log.warning("the engine is sound, the frames that it failed on were not", frames=count)
            self._engine.failures_in_a_row = 0
            return
        reason = f"its engine failed {count} times in a row and is being reloaded"
        self._engine.out_of_service = reason
        log.error("the engine is taken out of service", failures=count, error=str(fault))
        await self._tell(reason)
        tries = 0
        while fault is not None:
            waits = self._reload_waits_seconds
            await asyncio.sleep(waits[min(tries, len(waits) - 1)])
            tries += 1
            fault = await self._fault(self._reload)
            if isinstance(fault, UnsupportedGraphError):
                await self._give_up(fault)
                return
            if fault is not None:
                log.error("the engine still fails", tries=tries, error=str(fault))
        self._engine.failures_in_a_row = 0
        self._engine.out_of_service = ""
        log.warning("the engine computes again", tries=tries)
        await self._tell("")

    async def _give_up(self, fault: UnsupportedGraphError) -> None:
        """Reload no more: the engine refuses frames by itself, until it is given another graph."""
        log.error("the engine cannot run this half", error=str(fault))
        self._engine.unable = str(fault)
        self._engine.failures_in_a_row = 0
        self._engine.out_of_service = ""
        await self._tell(str(fault))

    async def _fault(
        self, before: Optional[Callable[[], Awaitable[None]]] = None
    ) -> Optional[Exception]:
        """What the test raises, or the step before it; None when neither raises."""
        try:
            if before is not None:
                await before()
            await self._test()
        # An engine may raise anything.
        except Exception as error:
            return error
        return None


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but no longer than this."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return
