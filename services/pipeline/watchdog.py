"""Keeps a stage's health true: engines that fail or hang, workers that hang."""

from __future__ import annotations

import asyncio
from typing import Awaitable, Callable, Optional, Sequence

import structlog

from services.pipeline.engine_thread import EngineThread

log = structlog.get_logger()

INTERVAL_SECONDS = 1.0
# So many executions, each of another frame, that fail one after another are the engine's fault,
# unless it can still execute what is known to be good.
MOST_FAILURES_IN_A_ROW = 3
# Waits before each try to reload an engine; the last is repeated.
RELOAD_WAITS_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

# Gets why the stage cannot serve; empty: it can.
Tell = Callable[[str], Awaitable[None]]


class Watchdog:
    """Looks after one stage's engine and workers.

    A thread that hangs cannot be ended from outside: what is left is to say that nothing can be
    served, so that frames go elsewhere and whoever supervises the process starts it anew. An engine
    that fails is reloaded, and tested, until it computes again.
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
            reload: loads the engine anew.
            test: executes what is known to be good; raises if that fails.
            tell: gets why the stage cannot serve, and the empty string once it can again.
            workers_stuck_seconds: how long a worker has been hanging; 0 when none does.
            interval_seconds: between looks for what hangs.
            reload_waits_seconds: before each try to reload; the last is repeated.
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
        """Find out whether it is the engine that is at fault, and if so reload it until it is not.

        Frames that come meanwhile are refused, so that they go elsewhere at once.
        """
        count = self._engine.failures_in_a_row
        test = asyncio.ensure_future(self._fault())
        try:
            while not test.done():
                await asyncio.wait([test], timeout=self._interval_seconds)
                if self._hanging():
                    # What has failed may hang next, in the test: that is told first.
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
            if fault is not None:
                log.error("the engine still fails", tries=tries, error=str(fault))
        self._engine.failures_in_a_row = 0
        self._engine.out_of_service = ""
        log.warning("the engine computes again", tries=tries)
        await self._tell("")

    async def _fault(
        self, before: Optional[Callable[[], Awaitable[None]]] = None
    ) -> Optional[Exception]:
        """What the test raises, after a step that may fail as well; None when all is well."""
        try:
            if before is not None:
                await before()
            await self._test()
        # An engine may raise anything.
        except Exception as error:
            return error
        return None


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, for so long at the most."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return
