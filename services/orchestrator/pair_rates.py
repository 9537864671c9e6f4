"""What each pair of nodes reaches while its sessions keep it saturated."""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional

_WINDOW_SECONDS = 1.5
_LEAST_SPAN_SECONDS = 0.75
_MAX_ANSWERS = 2048
# A pause ends the run of answers that a rate is made of; so do many answers in a row to sessions
# whose window was not full.
_PAUSE_SECONDS = 2.0
_UNSATURATED_ANSWERS = 16


class PairRate:
    """The rate of one pair's answers while it was saturated.

    Attributes:
        frames_per_second: the latest; None before the first.
        measured_at: when the latest answer came that it is made of.
    """

    def __init__(self) -> None:
        """Begin without a rate."""
        self.frames_per_second: Optional[float] = None
        self.measured_at = 0.0
        self._answered_at: Deque[float] = deque(maxlen=_MAX_ANSWERS)
        # Of these, how many of the latest were to sessions without a backlog.
        self._unsaturated = 0

    def observe(self, backlogged: bool, now: float) -> None:
        """Take note of an answer; costs the same however many came before."""
        if self._answered_at and now - self._answered_at[-1] > _PAUSE_SECONDS:
            self._forget()
        self._answered_at.append(now)
        self._unsaturated = 0 if backlogged else self._unsaturated + 1
        if self._unsaturated >= _UNSATURATED_ANSWERS:
            self._forget()

    def measure(self) -> None:
        """Derive the rate, if enough answers came since the pair became saturated."""
        if self._unsaturated >= len(self._answered_at):
            return
        latest = self._answered_at[-1 - self._unsaturated]
        recent = [at for at in self._answered_at if latest - _WINDOW_SECONDS <= at <= latest]
        span_seconds = latest - recent[0]
        if span_seconds >= _LEAST_SPAN_SECONDS:
            self.frames_per_second = (len(recent) - 1) / span_seconds
            self.measured_at = latest

    def _forget(self) -> None:
        self._answered_at.clear()
        self._unsaturated = 0
