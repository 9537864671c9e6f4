"""Turns of many sessions at the same stages: frames wait here, one session after the other.

A session keeps at least two frames in flight, or an engine would idle between them. Of hundreds of
sessions these are hundreds of frames, which would all wait at the stages: each for seconds, and
none of them could make way for a newer one. So the sessions of a crowd have a limit in common,
found as that of one session is, and each takes its turn. A live session's newest frame takes it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from typing import Callable, Deque, Dict, Optional, Set, Tuple

from common.domain.placement import NodePair
from services.orchestrator.session.crowd_window import CrowdWindow
from services.orchestrator.session.window import MAX_WINDOW, MIN_WINDOW, Transfer

# As many sessions as may have, together, the frames in flight that one may have alone.
_NO_CROWD_SESSIONS = MAX_WINDOW // MIN_WINDOW
# When nothing is answered for so long, or for so many latencies, nobody waits for a turn: those who
# have one may wait for a route, and others have to find out by themselves that there is none.
_STALLED_SECONDS = 2.0
_STALLED_LATENCIES = 4.0
# Share of the latest frame in the running mean.
_RECENT_SHARE = 0.1


class Turn:
    """A frame's leave to be under way, to be given back by `leave`.

    Attributes:
        began: when it was given, by `time.monotonic`.
        waited_seconds: how long the frame waited for it while its session had a slot for it.
    """

    __slots__ = ("_pool", "began", "waited_seconds")

    def __init__(self, pool: Optional[TurnPool], wanted_at: Optional[float] = None) -> None:
        """Begin now."""
        self._pool = pool
        self.began = time.monotonic()
        self.waited_seconds = 0.0 if wanted_at is None else self.began - wanted_at

    def learn(
        self, queue_seconds: float, execute_seconds: float, transfers: Tuple[Transfer, Transfer]
    ) -> None:
        """Learn from the frame's detections how many frames should be under way.

        Args:
            queue_seconds: that it waited for engines.
            execute_seconds: in both engines.
            transfers: of its picture to the backbone, of its features to the transformer.
        """
        if self._pool is not None:
            self._pool.learn(self, queue_seconds, execute_seconds, transfers)

    def leave(self) -> None:
        """Give it back: the frame is answered, or given up."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.leave(self)


Taker = Callable[[Turn], bool]


class TurnPool:
    """The turns of all sessions whose frames take one node pair.

    Attributes:
        members: the sessions.
        taken: turns that frames have now.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.members: Set[object] = set()
        self.taken = 0
        self._window = CrowdWindow()
        self._waiting: OrderedDict[object, Tuple[Taker, float]] = OrderedDict()
        self._left_at = time.monotonic()
        self._latency_seconds = 0.0
        self._is_stalled = False
        self._is_serving = False

    @property
    def limit(self) -> int:
        """Turns that there are, while the sessions are a crowd."""
        return self._window.frames

    def take_at_once(self) -> Optional[Turn]:
        """A turn, if one is free and nobody waits for it."""
        if self._waiting or not self._has_room:
            return None
        return self._take(None)

    def want(self, member: object, taker: Taker) -> None:
        """Have a turn given to a session, after all others that wait; once if asked repeatedly.

        Args:
            member: the session.
            taker: called with the turn; returns whether the session still has a use for it.
        """
        if member not in self._waiting:
            self._waiting[member] = (taker, time.monotonic())
            self._serve()

    def forget(self, member: object) -> None:
        """A session has ended, or goes elsewhere: it wants nothing more."""
        self._waiting.pop(member, None)
        self.members.discard(member)
        self._serve()

    def leave(self, turn: Turn) -> None:
        """Take a turn back."""
        self._left_at = time.monotonic()
        self._is_stalled = False
        self.taken -= 1
        share = _RECENT_SHARE if self._latency_seconds else 1.0
        self._latency_seconds += share * (self._left_at - turn.began - self._latency_seconds)
        self._serve()

    def learn(
        self,
        turn: Turn,
        queue_seconds: float,
        execute_seconds: float,
        transfers: Tuple[Transfer, Transfer],
    ) -> None:
        """See `Turn.learn`."""
        if not self._waiting:
            self._window.pause()
            return
        now = time.monotonic()
        self._window.observe(*(now, now - turn.began, queue_seconds, execute_seconds, transfers))
        self._serve()

    def look(self, now: float) -> None:
        """Let all in that wait, if nothing has been answered for long; `now` by `monotonic`."""
        patience_seconds = max(_STALLED_SECONDS, _STALLED_LATENCIES * self._latency_seconds)
        if self._waiting and now - self._left_at > patience_seconds:
            self._is_stalled = True
            self._serve()

    @property
    def _has_room(self) -> bool:
        no_crowd = self._is_stalled or len(self.members) <= _NO_CROWD_SESSIONS
        return no_crowd or self.taken < self.limit

    def _take(self, wanted_at: Optional[float]) -> Turn:
        turn = Turn(self, wanted_at)
        if not self.taken:
            self._left_at = turn.began
        self.taken += 1
        return turn

    def _serve(self) -> None:
        if self._is_serving:
            # A session that was just served waits again; it comes after all others.
            return
        self._is_serving = True
        try:
            while self._waiting and self._has_room:
                _, (taker, wanted_at) = self._waiting.popitem(last=False)
                if not taker(self._take(wanted_at)):
                    self.taken -= 1
        finally:
            self._is_serving = False


class Crowd:
    """A pool of turns for each node pair."""

    def __init__(self) -> None:
        """Begin without any."""
        self._pools: Dict[NodePair, TurnPool] = {}

    def pool(self, node_pair: NodePair) -> TurnPool:
        """That of a node pair."""
        return self._pools.setdefault(node_pair, TurnPool())

    def look(self, now: float) -> None:
        """See `TurnPool.look`; and forget the pools that nobody uses any more."""
        for node_pair, pool in tuple(self._pools.items()):
            pool.look(now)
            if not pool.members and not pool.taken:
                del self._pools[node_pair]


class SessionTurns:
    """One session's turns; without limit until it is known which node pair its frames take."""

    def __init__(self, crowd: Crowd) -> None:
        """Take turns of `crowd`."""
        self._crowd = crowd
        self._pool: Optional[TurnPool] = None
        self._waiting: Deque[asyncio.Future[Turn]] = deque()

    def join(self, node_pair: NodePair) -> None:
        """The session's frames take this node pair from now on."""
        self.leave_pool()
        self._pool = self._crowd.pool(node_pair)
        self._pool.members.add(self)
        if self._waiting:
            self._pool.want(self, self._give)

    def leave_pool(self) -> None:
        """The session has ended, or its frames go elsewhere."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.forget(self)

    def take_at_once(self) -> Optional[Turn]:
        """A turn for the next frame, if that needs no wait."""
        return Turn(None) if self._pool is None else self._pool.take_at_once()

    async def take(self) -> Turn:
        """A turn for the next frame; the session's frames get theirs in the order of asking."""
        turn = self.take_at_once()
        if turn is not None:
            return turn
        waiting: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self.want(self._give)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                # It was given up just as it got its turn.
                waiting.result().leave()
            raise

    def want(self, taker: Taker) -> None:
        """See `TurnPool.want`."""
        if self._pool is None:
            taker(Turn(None))
        else:
            self._pool.want(self, taker)

    def _give(self, turn: Turn) -> bool:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        if not self._waiting:
            return False
        self._waiting.popleft().set_result(turn)
        if self._waiting:
            # Behind all others: each session has one turn after the other.
            self.want(self._give)
        return True
