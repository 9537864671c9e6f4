"""When a server or a route is at fault, rather than a frame or a session; no I/O, no clock."""

from __future__ import annotations

from typing import Dict

from common.domain.placement import StageAddress
from services.orchestrator.routing.routes import Route

# Frames in a row that the server failed on, and that another one served.
FAILURES_IN_A_ROW = 3
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
# Sessions that must see no progress on a route within so long, before it is unavailable to all.
SESSIONS_WITHOUT_PROGRESS = 2
NO_PROGRESS_SECONDS = 15.0


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
            first frame after them decides: if it is served, the server is trusted again; if not,
            the server gets no frames for twice as long.
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


class ProgressRecord:
    """Which sessions have lately seen no progress on a route.

    One session's frames may be what its route does not get on with; when a second session has to
    wait as well, it is the route that is at fault.
    """

    def __init__(self) -> None:
        """Begin with no route suspected."""
        self._sessions: Dict[Route, Dict[str, float]] = {}

    def no_progress(self, route: Route, session_id: str, now: float) -> bool:
        """Take note that a session's frames were not answered in time.

        Returns:
            Whether the route itself is at fault.
        """
        sessions = self._sessions.setdefault(route, {})
        sessions[session_id] = now
        for other in [each for each, at in sessions.items() if at < now - NO_PROGRESS_SECONDS]:
            del sessions[other]
        return len(sessions) >= SESSIONS_WITHOUT_PROGRESS

    def forget(self, server: StageAddress) -> None:
        """A server is gone, and with it its routes."""
        for route in [route for route in self._sessions if route.uses(server)]:
            del self._sessions[route]
