"""Watches for an engine that hangs."""

from __future__ import annotations

import asyncio
from typing import Awaitable, Callable

import structlog

from common.stage.runner import EngineRunner

log = structlog.get_logger()

INTERVAL_SECONDS = 1.0


async def watch_engine(
    runner: EngineRunner,
    set_serving: Callable[[bool], Awaitable[None]],
    interval_seconds: float = INTERVAL_SECONDS,
) -> None:
    """Tell when an execution hangs, and when it has come to an end after all; never returns.

    A thread cannot be ended from outside: what is left is to say that nothing can be served, so
    that frames go elsewhere and whoever supervises the process starts it anew.

    Args:
        runner: of the engine.
        set_serving: gets False when an execution hangs, True when the engine runs again.
        interval_seconds: between looks.
    """
    was_stuck = False
    while True:
        await asyncio.sleep(interval_seconds)
        stuck_seconds = runner.stuck_seconds()
        is_stuck = stuck_seconds > 0
        if is_stuck == was_stuck:
            continue
        was_stuck = is_stuck
        if is_stuck:
            log.error("engine hangs", execution_seconds=round(stuck_seconds, 1))
        else:
            log.warning("engine runs again")
        await set_serving(not is_stuck)
