"""How many frames of all sessions of a crowd are under way: as few as keep the engines busy."""

from __future__ import annotations

import statistics
from typing import List, Optional, Tuple

from services.orchestrator.session.window import Transfer, WaitFreeTransfer

_LEAST_FRAMES = 4
_MOST_FRAMES = 4096
# Frames that wait for an engine while it executes another one: enough for a busy machine to be late
# with the next for a moment, and at least so many.
_LEAST_BACKLOG_FRAMES, _LEAST_BACKLOG_SECONDS = 0.7, 0.05
_MOST_BACKLOG_FRAMES, _MOST_BACKLOG_SECONDS = 2.0, 0.1
# When processors or links are busier than engines, frames wait there, which looks like work. A
# frame may take a few times as long as it would alone, and no longer.
_LEAST_MOVING_SHARE = 0.25
_TOO_LITTLE_MOVING_SHARE = 0.15
# Steps are in proportion, so that a large fleet is filled as quickly as one engine.
_STEP_SHARE = 1 / 8
_LEAST_ROUND_ANSWERS = 8


class CrowdWindow:
    """Finds the limit of a crowd from its answers; no I/O and no clock in here.

    By Little's law, throughput times the time that frames wait for engines is the number of those
    that wait. The limit grows while that is too few to keep the engines busy, and shrinks while
    frames only wait.

    Attributes:
        frames: that may be under way.
    """

    def __init__(self) -> None:
        """Begin small."""
        self.frames = _LEAST_FRAMES
        self._links = (WaitFreeTransfer(), WaitFreeTransfer())
        self.pause()

    def pause(self) -> None:
        """Forget the round under way: there are fewer frames than may be."""
        self._began: Optional[float] = None
        self._latencies: List[float] = []
        self._queued: List[float] = []
        self._executed: List[float] = []
        self._moved: List[float] = []

    def observe(
        self,
        now: float,
        latency_seconds: float,
        queue_seconds: float,
        execute_seconds: float,
        transfers: Tuple[Transfer, Transfer],
    ) -> None:
        """Take note of the answer to a frame that was under way while others waited to be.

        Args:
            now: when it came; seconds, of any steady clock.
            latency_seconds: from when it might be sent to its answer.
            queue_seconds: of these, waiting for engines.
            execute_seconds: of these, in both engines.
            transfers: the picture's to the backbone, the features' to the transformer.
        """
        moving_seconds = sum(link.learn(transfer) for link, transfer in zip(self._links, transfers))
        if self._began is None:
            self._began = now
            return
        waits_seconds = sum(transfer.seconds for transfer in transfers) - moving_seconds
        self._latencies.append(latency_seconds)
        self._queued.append(queue_seconds)
        self._executed.append(execute_seconds)
        self._moved.append(latency_seconds - queue_seconds - waits_seconds)
        answers, elapsed_seconds = len(self._latencies), now - self._began
        if answers < max(_LEAST_ROUND_ANSWERS, 2 * self.frames) or elapsed_seconds <= 0:
            return
        throughput = answers / elapsed_seconds
        # Two for each pair of engines that is busy all the time.
        busy_pairs = max(1.0, throughput * statistics.median(self._executed) / 2)
        moving_share = statistics.median(self._moved) / statistics.median(self._latencies)
        self._adjust(throughput / busy_pairs, statistics.median(self._queued), moving_share)
        self.pause()

    def _adjust(self, throughput: float, queue_seconds: float, moving_share: float) -> None:
        """Take a step, by what one pair of engines does."""
        step = max(1, int(self.frames * _STEP_SHARE))
        backlog = throughput * queue_seconds
        least = max(_LEAST_BACKLOG_FRAMES, throughput * _LEAST_BACKLOG_SECONDS)
        most = max(_MOST_BACKLOG_FRAMES, throughput * _MOST_BACKLOG_SECONDS)
        if backlog > most or moving_share < _TOO_LITTLE_MOVING_SHARE:
            self.frames = max(_LEAST_FRAMES, self.frames - step)
        elif backlog < least and moving_share > _LEAST_MOVING_SHARE:
            self.frames = min(_MOST_FRAMES, self.frames + step)
