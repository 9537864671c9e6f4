"""The state of the whole system, as the orchestrator sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from common.domain.placement import Placement, Stage


@dataclass(frozen=True)
class StageStatus:
    """One stage of one node; `reason` says why it is not healthy."""

    node: str
    stage: Stage
    address: str
    healthy: bool
    reason: str


@dataclass(frozen=True)
class PlacementStatus:
    """One placement; `reason` says why it is not available.

    Attributes:
        frames: answered with detections since the orchestrator started.
        frames_per_second: answered with detections, over the last ten seconds.
    """

    placement: Placement
    available: bool
    reason: str
    frames: int
    frames_per_second: float


@dataclass(frozen=True)
class SessionStatus:
    """One client stream; `placement` is where its latest frame was sent."""

    session_id: str
    placement: Optional[Placement]
    frames_answered: int
    frames_in_flight: int


@dataclass(frozen=True)
class SystemStatus:
    """All of it.

    Attributes:
        placement_setting: what was set; None is automatic.
        placement: where a stream that leaves it to the server is sent now; None: nothing can
            serve.
        stages: of every node.
        placements: in the order of the enum.
        sessions: the open client streams.
        uptime_seconds: since the orchestrator started.
        draining: it takes no new streams any more.
    """

    placement_setting: Optional[Placement]
    placement: Optional[Placement]
    stages: Tuple[StageStatus, ...]
    placements: Tuple[PlacementStatus, ...]
    sessions: Tuple[SessionStatus, ...]
    uptime_seconds: float
    draining: bool
