"""Turns in which tasks do something, in the order in which they asked."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Optional, Type


class Turns:
    """Lets tasks through one after the other, in the order in which they took their turns."""

    def __init__(self) -> None:
        """Nobody has a turn yet."""
        self._latest: Optional[asyncio.Future[None]] = None

    @property
    def are_free(self) -> bool:
        """Whether nobody has a turn or waits for one."""
        return self._latest is None or self._latest.done()

    def take(self) -> Turn:
        """Take the next turn; it has to be entered."""
        turn = Turn(self._latest)
        self._latest = turn.ended
        return turn


class Turn:
    """One task's turn: an asynchronous context manager that waits until those in front have left.

    Attributes:
        ended: done once this one, and all those in front, have left or been given up.
    """

    def __init__(self, before: Optional[asyncio.Future[None]]) -> None:
        """Use `Turns.take` instead."""
        self._before = before
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> None:
        """Wait for the turn."""
        before = self._before
        if before is None or before.done():
            return
        try:
            await asyncio.wait([before])
        except BaseException:
            # Given up while it waited: those behind it still wait for those in front.
            before.add_done_callback(lambda _: self.ended.set_result(None))
            raise

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Let the next one in."""
        self.ended.set_result(None)
