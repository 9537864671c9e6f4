"""What each node pair reaches while its sessions keep it saturated."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import Deque, Optional

_WINDOW_SECONDS = 1.5
_LEAST_SPAN_SECONDS = 0.75
_MAX_ANSWERS = 2048
# So long without an answer to a session with a full window, and the run is over that a rate is
# made of.
_PAUSE_SECONDS = 1.0
# Before that frames of the pair that served last are still under way.
_SETTLING_SECONDS = 0.5
# Frames that wait for a link reach the engines one by one, and hardly wait there.
_ENGINE_WAIT_SHARE = 0.25
# Answers in one half of the time more than in the other, of all.
_STEADY_SHARE = 0.1


@dataclass(frozen=True)
class _Answer:
    at: float
    queue_seconds: float
    transfer_seconds: float


class PairRate:
    """The rate of one pair's answers while it was saturated.

    Attributes:
        frames_per_second: the latest; None before the first.
        measured_at: when the latest answer came that it is made of.
        engines_are_limit: whether frames waited for the engines then, rather than for links.
        steady: whether it was the same all the time, and not of a change under way.
    """

    def __init__(self) -> None:
        """Begin without a rate."""
        self.frames_per_second: Optional[float] = None
        self.measured_at = 0.0
        self.engines_are_limit = False
        self.steady = False
        self._answers: Deque[_Answer] = deque(maxlen=_MAX_ANSWERS)
        self._began_at = 0.0
        self._backlogged_at = 0.0

    def observe(
        self, queue_seconds: float, transfer_seconds: float, *, backlogged: bool, now: float
    ) -> None:
        """Take note of an answer; costs the same however many came before.

        Args:
            queue_seconds: how long its frame waited for engines.
            transfer_seconds: how long its payloads were on links.
            backlogged: whether its session had its window full.
            now: when the answer came.
        """
        if backlogged:
            if now - self._backlogged_at > _PAUSE_SECONDS:
                self._answers.clear()
            if not self._answers:
                self._began_at = now
            self._backlogged_at = now
        if backlogged or self._answers:
            self._answers.append(_Answer(now, queue_seconds, transfer_seconds))

    def measure(self) -> None:
        """Derive the rate, if enough answers came since the pair became saturated."""
        until = self._backlogged_at
        since = max(until - _WINDOW_SECONDS, self._began_at + _SETTLING_SECONDS)
        recent = [each for each in self._answers if since <= each.at <= until]
        if not recent or recent[-1].at - recent[0].at < _LEAST_SPAN_SECONDS:
            return
        self.frames_per_second = (len(recent) - 1) / (recent[-1].at - recent[0].at)
        self.measured_at = until
        middle = (recent[0].at + recent[-1].at) / 2
        earlier = sum(each.at <= middle for each in recent)
        self.steady = abs(2 * earlier - len(recent)) <= max(2, _STEADY_SHARE * len(recent))
        waited_seconds = statistics.median(each.queue_seconds for each in recent)
        transfer_seconds = statistics.median(each.transfer_seconds for each in recent)
        self.engines_are_limit = waited_seconds > _ENGINE_WAIT_SHARE * transfer_seconds
