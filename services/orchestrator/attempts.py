"""What became of one frame's tries, and whether there may be another; no I/O, no clock."""

from __future__ import annotations

from typing import List, Optional

from common.domain.errors import InternalError, TandemError
from common.domain.placement import StageAddress
from services.orchestrator.placement import Route

# Of a frame that was under way when its route was lost. One loss is anybody's, two are the frame's:
# lost frames are sent again one at a time, so that no other one is lost for its sake.
MOST_LOSSES = 2
# Of a frame that a stage failed on: once more on another server, which tells whose fault it is.
MOST_FAILURES = 2
# Of a frame whose message a stage refused although its stream was open.
MOST_REJECTIONS = 3


class FrameAttempts:
    """The tries of one frame.

    Attributes:
        lost_with: routes that were lost while it was under way.
        failed_on: servers that failed on it.
        rejections: by open streams, for lack of room for it.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.lost_with: List[Route] = []
        self.failed_on: List[StageAddress] = []
        self.rejections = 0
        self._tried: List[Route] = []
        self._latest_failure: Optional[TandemError] = None

    @property
    def is_retry(self) -> bool:
        """Whether the frame has been on a route before."""
        return bool(self._tried)

    @property
    def is_suspect(self) -> bool:
        """Whether a route was lost with it, so that it may be what brings its stages down."""
        return bool(self.lost_with)

    def lost(self, route: Route) -> None:
        """The route was lost while the frame was under way."""
        self._tried.append(route)
        self.lost_with.append(route)

    def failed(self, route: Route, server: StageAddress, error: TandemError) -> None:
        """A server of the route failed on the frame."""
        self._tried.append(route)
        self.failed_on.append(server)
        self._latest_failure = error

    def rejected(self, route: Route) -> None:
        """The route's stream was open, and there was no room for the frame."""
        self._tried.append(route)
        self.rejections += 1

    def penalty(self, route: Route) -> int:
        """How little a route is wanted for the next try.

        Returns:
            0 for one without any server that the frame has been to; 2 for one with a server that
            failed on it, or a route that was lost with it; 1 for any other.
        """
        if any(route.uses(server) for server in self.failed_on) or route in self.lost_with:
            return 2
        servers = {server for tried in self._tried for server in tried.servers}
        return 1 if servers.intersection(route.servers) else 0

    def verdict(self, next_route: Optional[Route] = None) -> Optional[TandemError]:
        """The error to answer the frame with; None while it may be tried again.

        Args:
            next_route: the best that is left for it; None if that is not known.
        """
        if len(self.lost_with) >= MOST_LOSSES:
            routes = " and then of ".join(route.pair.name for route in self.lost_with)
            return InternalError(
                f"this frame was under way at the loss of {routes}; it is not sent a third time, "
                "since it may be what brings them down"
            )
        if len(self.failed_on) >= MOST_FAILURES:
            servers = " and ".join(server.name for server in self.failed_on)
            return InternalError(
                f"this frame failed on {servers}, so that the fault is taken to be the frame's: "
                f"{self._latest_failure}"
            )
        if next_route is not None and any(next_route.uses(each) for each in self.failed_on):
            # There is no other server to try.
            return self._latest_failure
        return None
