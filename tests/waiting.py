"""Waiting until something holds, for as long as a slow machine needs. Runs on Python 3.8.

A limit costs a test that passes nothing: it only ends one that would wait for ever. So there is one
limit for all, which is long, since a busy machine may stop any process for seconds.
"""

import asyncio
import time
from typing import Callable, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 120.0
"""How long whatever has to come may take; less than the time that a test has."""

_PAUSE_SECONDS = 0.02


async def until(
    condition: Callable[[], T],
    fault: str = "it never came to be",
    seconds: float = PATIENCE_SECONDS,
) -> T:
    """Wait until a condition holds, while this process's event loop goes on.

    Args:
        condition: asked again and again; what it returns counts as true or false.
        fault: what is wrong if it never holds.
        seconds: how long it may take.

    Returns:
        What the condition returned.
    """
    end = time.monotonic() + seconds
    while True:
        # Asked once more after the end: this process itself may have been stopped.
        is_over = time.monotonic() > end
        held = condition()
        if held:
            return held
        assert not is_over, fault
        await asyncio.sleep(_PAUSE_SECONDS)


def wait_until(
    condition: Callable[[], object],
    seconds: float = PATIENCE_SECONDS,
) -> bool:
    """Wait until a condition holds; False if it does not come to hold in time."""
    end = time.monotonic() + seconds
    while True:
        is_over = time.monotonic() > end
        if condition():
            return True
        if is_over:
            return False
        time.sleep(_PAUSE_SECONDS)
