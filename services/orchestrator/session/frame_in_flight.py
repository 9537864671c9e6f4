"""One frame of a client from its reading to its answer, in its place among the others."""

from __future__ import annotations

import asyncio
from typing import Any, List, Optional, Protocol

from common.domain.errors import TandemError
from common.server.ordered_stream import Held, PendingAnswer
from protos.tandem.v1 import detector_pb2, stage_pb2
from services.orchestrator.session.arrivals import Arrival
from services.orchestrator.session.crowd import Turn
from services.orchestrator.session.usual_path import Trip


class FrameOwner(Protocol):
    """The session that a frame is of."""

    def came_back(self, frame: FrameInFlight, result: stage_pb2.FrameResult) -> None:
        """A usual frame has its result."""
        ...

    def was_lost(self, frame: FrameInFlight, error: TandemError) -> None:
        """The stream that a usual frame was on ended with this error."""
        ...

    def given_up(self, frame: FrameInFlight) -> None:
        """Nobody waits for a usual frame any more."""
        ...


class FrameInFlight(PendingAnswer[detector_pb2.DetectResponse]):
    """A frame that was read and is not answered yet.

    While it is on the usual path, `trip` is set, and the stream that it is on tells it its result.
    Otherwise a task takes care of it (`follow`).

    Attributes:
        arrival: the frame as it was read.
        turn: its leave to be under way, while the usual path keeps it.
        trip: on the usual path; None when it is not there, or no more.
    """

    __slots__ = ("_owner", "arrival", "trip", "turn")

    def __init__(self, owner: FrameOwner, arrival: Arrival, held: Held) -> None:
        """Begin at its reading; `held` is what it is charged for."""
        super().__init__(held)
        self._owner = owner
        self.arrival = arrival
        self.turn: Optional[Turn] = None
        self.trip: Optional[Trip] = None

    def answered(self, result: stage_pb2.FrameResult) -> None:
        """See `Asker`."""
        self._owner.came_back(self, result)

    def failed(self, error: TandemError) -> None:
        """See `Asker`."""
        self._owner.was_lost(self, error)

    def abandon(self) -> List[asyncio.Future[Any]]:
        """See `PendingAnswer`."""
        if self.trip is not None:
            self._owner.given_up(self)
        return super().abandon()
