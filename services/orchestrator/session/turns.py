"""Turns in which tasks do something, in the order in which they asked."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import AsyncContextManager, AsyncIterator, Optional


class Turns:
    """Lets tasks through one after the other, in the order in which they took their turns."""

    def __init__(self) -> None:
        """Nobody has a turn yet."""
        self._latest: Optional[asyncio.Future[None]] = None

    def take(self) -> AsyncContextManager[None]:
        """Take the next turn; it has to be entered, and ends when it is left."""
        before, own = self._latest, asyncio.get_running_loop().create_future()
        self._latest = own
        return _turn(before, own)


@asynccontextmanager
async def _turn(
    before: Optional[asyncio.Future[None]], own: asyncio.Future[None]
) -> AsyncIterator[None]:
    try:
        if before is not None and not before.done():
            await asyncio.wait([before])
        yield
    finally:
        if before is None or before.done():
            own.set_result(None)
        else:
            # Given up while it waited: those behind it still wait for those in front.
            before.add_done_callback(lambda _: own.set_result(None))
