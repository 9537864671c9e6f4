"""What each door takes: how many callers at a time, how often, and how much."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.domain.errors import ResourceExhaustedError

# Of callers whose rate is remembered; the one that was silent for longest is forgotten.
_REMEMBERED = 4096
# A page's files, or the frames of a camera that was held up, come at once.
_BURST_SECONDS = 2.0
_LEAST_BURST = 10.0


@dataclass(frozen=True)
class DoorLimits:
    """The limits of one door.

    Attributes:
        sessions: requests, streams and connections that are served at a time.
        requests_per_second: of one host, on average; a stream counts as one.
        body_bytes: the largest body of a request.
    """

    sessions: int
    requests_per_second: float
    body_bytes: int


class DoorGuard:
    """Holds the callers of one door to its limits; used from the event loop alone.

    Attributes:
        limits: that it holds them to.
    """

    def __init__(
        self, name: str, limits: DoorLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nobody has called yet.

        Args:
            name: of the door, for messages.
            limits: of the door.
            clock: in seconds.
        """
        self.limits = limits
        self._name = name
        self._clock = clock
        self._sessions = 0
        # By host: how many requests it may still make, and when that was so.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def sessions(self) -> int:
        """How many callers are being served."""
        return self._sessions

    @contextmanager
    def admitted(self, host: str) -> Iterator[None]:
        """Serve a caller while the block lasts.

        Args:
            host: of the caller.

        Raises:
            ResourceExhaustedError: too many are served, or this host has called too often.
        """
        self._count(host)
        if self._sessions >= self.limits.sessions:
            raise ResourceExhaustedError(
                f"{self.limits.sessions} callers of {self._name} are served, which is the limit"
            )
        self._sessions += 1
        try:
            yield
        finally:
            self._sessions -= 1

    def _count(self, host: str) -> None:
        rate = self.limits.requests_per_second
        most = max(_LEAST_BURST, rate * _BURST_SECONDS)
        now = self._clock()
        left, since = self._left.pop(host, (most, now))
        left = min(most, left + (now - since) * rate)
        allowed = left >= 1
        self._left[host] = (left - 1 if allowed else left, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        if not allowed:
            raise ResourceExhaustedError(
                f"more than {rate:g} requests a second of one host come to {self._name}"
            )
