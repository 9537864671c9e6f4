"""What lets frames pass: a window's slots, a live camera's gate, the order of those sent again."""

from __future__ import annotations

import asyncio
from typing import Optional, Set


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

    With it, latency stays near the service time however fast frames come.
    """

    def __init__(self, slots: int) -> None:
        """Serve up to `slots` frames at a time."""
        self._slots = slots
        self._free = slots
        self._waiting: Optional[asyncio.Future[bool]] = None

    @property
    def crowded(self) -> bool:
        """Whether a frame is waiting, so that those being served are not all there are."""
        return self._waiting is not None

    async def enter(self) -> bool:
        """Wait for a slot.

        Returns:
            True with a slot taken, to be given back by `leave`; False when a newer frame took
            this one's place.
        """
        if self._free > 0:
            self._free -= 1
            return True
        if self._waiting is not None:
            self._waiting.set_result(False)
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting = turn
        try:
            return await turn
        finally:
            if self._waiting is turn:
                self._waiting = None

    def leave(self) -> None:
        """Give a slot back: to the frame that waits, if one does."""
        self._free += 1
        self._let_in()

    def resize(self, slots: int) -> None:
        """Change the number of slots; those taken stay so until they are given back."""
        self._free += slots - self._slots
        self._slots = slots
        self._let_in()

    def _let_in(self) -> None:
        if self._free > 0 and self._waiting is not None:
            turn, self._waiting = self._waiting, None
            self._free -= 1
            turn.set_result(True)


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
