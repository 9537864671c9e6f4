"""A circuit breaker: takes a server out that fails where others succeed; no I/O, no clock."""

from __future__ import annotations

from typing import Dict

from common.domain.placement import StageAddress

# Frames in a row that the server failed on, and that another one served.
FAILURES_IN_A_ROW = 3
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0


class CircuitBreaker:
    """Counts, for each server, the frames that it failed on and that another server then served.

    So a frame that fails everywhere counts against nobody. A stage whose engine fails says so
    by its health as well; this is for those that do not.
    """

    def __init__(self) -> None:
        """Begin with every server trusted."""
        self._failures: Dict[StageAddress, int] = {}
        self._waits_seconds: Dict[StageAddress, float] = {}

    def failed(self, server: StageAddress) -> float:
        """A server failed on a frame that another one has served since.

        Returns:
            For how many seconds no frame should go there now; 0 while it is still trusted. The
            first frame after them decides: served, the server is trusted again; if not, it
            stays out for twice as long.
        """
        self._failures[server] = self._failures.get(server, 0) + 1
        if self._failures[server] < FAILURES_IN_A_ROW:
            return 0.0
        wait_seconds = self._waits_seconds.get(server, FIRST_WAIT_SECONDS)
        self._waits_seconds[server] = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
        return wait_seconds

    def succeeded(self, server: StageAddress) -> None:
        """A server has served a frame."""
        self._failures.pop(server, None)
        self._waits_seconds.pop(server, None)
