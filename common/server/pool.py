"""A number of bytes that many streams share fairly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Dict, Hashable, List, NamedTuple, Optional

from common.domain.errors import ResourceExhaustedError

# Small requests may pass a larger one that waits, for this long.
_PASSED_SECONDS = 2.0


class Holder(NamedTuple):
    """Who holds bytes: a stream, and the peer that opened it."""

    peer: Hashable
    stream: object


class Pool:
    """Bytes that many share; requests are served in order, except that small ones may pass."""

    def __init__(self, size_bytes: int, peer_bytes: int) -> None:
        """Share `size_bytes`: one peer gets `peer_bytes` at most, one stream a quarter of all.

        A stream that holds nothing may take more than a quarter.
        """
        self.size_bytes = size_bytes
        self.taken_bytes = 0
        self._peer_bytes = peer_bytes
        self._stream_bytes = size_bytes // 4
        self._taken_by: Dict[object, int] = {}
        self._waiting: List[_Wait] = []

    @property
    def is_short(self) -> bool:
        """Whether a request waits."""
        return bool(self._waiting)

    def take_at_once(self, holder: Holder, count: int) -> bool:
        """Take bytes if that many are free and nobody waits; returns whether they are taken."""
        if self._waiting or not self._fits(holder, count):
            return False
        self._take(holder, count)
        return True

    async def take(
        self,
        holder: Holder,
        count: int,
        patience_seconds: Optional[float],
        newest_first: bool = False,
    ) -> None:
        """Wait until so many bytes are free, and take them.

        Args:
            holder: who takes them.
            count: bytes.
            patience_seconds: how long to wait at most; None: without limit.
            newest_first: wait in front of all others instead of behind them.

        Raises:
            ResourceExhaustedError: there was no room for so long.
        """
        if self.take_at_once(holder, count):
            return
        loop = asyncio.get_running_loop()
        wait = _Wait(holder, count, loop.time(), loop.create_future())
        self._waiting.insert(0 if newest_first else len(self._waiting), wait)
        self._serve()
        try:
            await asyncio.wait([wait.turn], timeout=patience_seconds)
            if not wait.turn.done():
                raise ResourceExhaustedError(
                    f"the server has had no room for another message for {patience_seconds:g} s"
                )
        except BaseException:
            if wait.turn.done():
                self.give_back(holder, count)
            else:
                self._waiting.remove(wait)
                self._serve()
            raise

    def take_in_front(self, holder: Holder, count: int) -> bool:
        """Take bytes if that many are free, even if others wait; returns whether they are taken."""
        if not self._fits(holder, count):
            return False
        self._take(holder, count)
        return True

    def take_anyway(self, holder: Holder, count: int) -> None:
        """Take bytes, whether or not there is room."""
        self._take(holder, count)

    def give_back(self, holder: Holder, count: int) -> None:
        """Give bytes back."""
        self._take(holder, -count)
        if self._waiting:
            self._serve()

    def _serve(self) -> None:
        now = asyncio.get_running_loop().time()
        for wait in tuple(self._waiting):
            if self._fits(wait.holder, wait.count):
                self._waiting.remove(wait)
                self._take(wait.holder, wait.count)
                wait.turn.set_result(None)
            elif self.within_share(wait.holder, wait.count) and now - wait.since > _PASSED_SECONDS:
                # It has waited for long: what is freed next is kept for it.
                return

    def _fits(self, holder: Holder, count: int) -> bool:
        fits = self.taken_bytes + count <= self.size_bytes
        return fits and self.within_share(holder, count)

    def within_share(self, holder: Holder, count: int) -> bool:
        """Whether a holder's share allows so many more bytes, be they free or not."""
        taken = self._taken_by
        own = taken.get(holder.stream, 0)
        if own and own + count > self._stream_bytes:
            return False
        return taken.get(holder.peer, 0) + count <= self._peer_bytes

    def _take(self, holder: Holder, count: int) -> None:
        self.taken_bytes += count
        taken = self._taken_by
        for each in holder:
            left = taken.get(each, 0) + count
            if left:
                taken[each] = left
            else:
                taken.pop(each, None)


@dataclass
class _Wait:
    holder: Holder
    count: int
    since: float
    turn: asyncio.Future[None]
