"""What lets frames pass: a window's slots, a live camera's gate, the order of those sent again."""

from __future__ import annotations

import asyncio
import time
from typing import Optional, Set

from services.orchestrator.session.crowd import SessionTurns, Turn


class WindowSlots:
    """Slots for the frames in flight, whose number may change while they are taken.

    Attributes:
        size: slots in all.
        taken: slots taken.
    """

    def __init__(self, size: int) -> None:
        """Begin with `size` free slots."""
        self.size = size
        self.taken = 0
        self._freed = asyncio.Event()

    async def acquire(self) -> None:
        """Wait for a free slot and take it; one caller at a time."""
        while self.taken >= self.size:
            self._freed.clear()
            await self._freed.wait()
        self.taken += 1

    def release(self) -> None:
        """Give a slot back."""
        self.taken -= 1
        self._freed.set()

    def resize(self, size: int) -> None:
        """Change the number of slots; those taken stay so until they are given back."""
        self.size = size
        self._freed.set()


class NewestWinsGate:
    """Lets a few frames be served at a time, and one wait: the newest.

    With it, latency stays near the service time however fast frames come, and however many other
    sessions there are: the frame that waits for the session's turn is the newest as well.
    """

    def __init__(self, slots: int, turns: SessionTurns) -> None:
        """Serve up to `slots` frames at a time, each in one of the session's `turns`."""
        self._slots = slots
        self._free = slots
        self._turns = turns
        self._waiting: Optional[asyncio.Future[Optional[Turn]]] = None
        self._waiting_since = 0.0

    @property
    def crowded(self) -> bool:
        """Whether a frame is waiting, so that those being served are not all there are."""
        return self._waiting is not None

    def enter_at_once(self) -> Optional[Turn]:
        """The turn with a slot taken, as of `enter`; None where that needs a wait."""
        turn = self._turns.take_at_once() if self._free > 0 else None
        if turn is not None:
            self._free -= 1
        return turn

    async def enter(self) -> Optional[Turn]:
        """Wait for a slot, and for a turn.

        Returns:
            The turn with a slot taken, to be given back by `leave`; None when a newer frame took
            this one's place.
        """
        at_once = self.enter_at_once()
        if at_once is not None:
            return at_once
        if self._waiting is not None:
            self._waiting.set_result(None)
        waiting: asyncio.Future[Optional[Turn]] = asyncio.get_running_loop().create_future()
        self._waiting, self._waiting_since = waiting, time.monotonic()
        self._let_in()
        try:
            return await waiting
        except asyncio.CancelledError:
            turn = waiting.result() if waiting.done() and not waiting.cancelled() else None
            if turn is not None:
                self.leave(turn)
            raise
        finally:
            if self._waiting is waiting:
                self._waiting = None

    def leave(self, turn: Turn) -> None:
        """Give a slot and its turn back; the frame that waits, if one does, takes the slot."""
        self._free += 1
        turn.leave()
        self._let_in()

    def resize(self, slots: int) -> None:
        """Change the number of slots; those taken stay so until they are given back."""
        self._free += slots - self._slots
        self._slots = slots
        self._let_in()

    def _let_in(self) -> None:
        if self._free > 0 and self._waiting is not None:
            self._turns.want(self._take)

    def _take(self, turn: Turn) -> bool:
        """Give a turn to the frame that waits; returns whether there is one, and a slot for it."""
        if self._free <= 0 or self._waiting is None:
            return False
        waiting, self._waiting = self._waiting, None
        self._free -= 1
        # Frames before it may have waited for this turn.
        longest = turn.began - self._waiting_since
        turn.waited_seconds = min(turn.waited_seconds, longest)
        waiting.set_result(turn)
        return True


class EarliestFirst:
    """Lets frames through one at a time in the order of their ids, in whatever order they come.

    Answers are in that order anyway; and a frame of video is decoded after those before it.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._frame_ids: Set[int] = set()
        self._changed = asyncio.Event()

    def expect(self, frame_id: int) -> None:
        """A frame is going to wait, so that none behind it goes first."""
        self._frame_ids.add(frame_id)

    async def wait(self, frame_id: int) -> None:
        """Wait until no frame is expected that is before this one."""
        while any(each < frame_id for each in self._frame_ids):
            self._changed.clear()
            await self._changed.wait()

    def leave(self, frame_id: int) -> None:
        """A frame is done, or was never expected."""
        self._frame_ids.discard(frame_id)
        self._changed.set()
