"""The state of the whole system, as the orchestrator sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from common.domain.placement import NodePair, Placement, Stage


@dataclass(frozen=True)
class ServiceEstimate:
    """How fast a stage is on its node: medians over its latest frames.

    Attributes:
        execute_seconds: in the engine.
        compute_seconds: in all of the stage's own steps.
        age_seconds: since the latest of the frames.
    """

    execute_seconds: float
    compute_seconds: float
    age_seconds: float


@dataclass(frozen=True)
class StageStatus:
    """One server of one stage; `reason` says why it is not healthy, or not chosen yet.

    Attributes:
        replica: which of the node's addresses for this stage, from 0.
        frames_in_flight: on their way to it, in it, and on their way back.
        estimate: None until a frame was there.
    """

    node: str
    stage: Stage
    address: str
    healthy: bool
    reason: str
    replica: int
    frames_in_flight: int
    estimate: Optional[ServiceEstimate]


@dataclass(frozen=True)
class LinkStatus:
    """What is known of the way between two places: nodes, or `orchestrator`.

    Attributes:
        latency_seconds: there and back, of a message of no size.
        age_seconds: since the latest frame.
    """

    source: str
    destination: str
    bytes_per_second: float
    latency_seconds: float
    age_seconds: float


@dataclass(frozen=True)
class PredictedService:
    """What the orchestrator expects of a placement, were it used.

    Attributes:
        latency_seconds: of a frame that never waits.
        bytes_per_frame: that cross from one place to another.
        energy_joules: drawn while computing one frame; None where power is not known.
        bottleneck: what limits the throughput.
    """

    frames_per_second: float
    latency_seconds: float
    bytes_per_frame: float
    energy_joules: Optional[float]
    bottleneck: str


@dataclass(frozen=True)
class PlacementStatus:
    """One pair of nodes; `reason` says why it is not available, or not to be chosen.

    Attributes:
        frames: answered with detections since the orchestrator started.
        frames_per_second: answered with detections, over the last ten seconds.
        prediction: None until every part of the way was measured.
    """

    pair: NodePair
    available: bool
    reason: str
    frames: int
    frames_per_second: float
    prediction: Optional[PredictedService]


@dataclass(frozen=True)
class SessionStatus:
    """One client stream; `pair` is where its latest frame was sent."""

    session_id: str
    pair: Optional[NodePair]
    frames_answered: int
    frames_in_flight: int


@dataclass(frozen=True)
class EventCounts:
    """What happened since the orchestrator started.

    Attributes:
        switches: changes of the placement of streams that leave it to the server, by reason.
        failovers: stages and routes lost, by kind of fault.
        replayed_frames: sent again since their route was lost.
        probe_frames: copies sent for measurement only.
    """

    switches: Mapping[str, int]
    failovers: Mapping[str, int]
    replayed_frames: int
    probe_frames: int


@dataclass(frozen=True)
class SystemStatus:
    """All of it.

    Attributes:
        setting: what was set; None is automatic.
        current: where a stream that leaves it to the server is sent now; None: nothing can serve.
        stages: of every node.
        placements: in the order of the enum, then every other pair of nodes.
        links: between places.
        sessions: the open client streams.
        objective: what the automatic choice aims at.
        explanation: why it is what it is; a sentence each.
        events: counts.
        uptime_seconds: since the orchestrator started.
        draining: it takes no new streams any more.
    """

    setting: Optional[NodePair]
    current: Optional[NodePair]
    stages: Tuple[StageStatus, ...]
    placements: Tuple[PlacementStatus, ...]
    links: Tuple[LinkStatus, ...]
    sessions: Tuple[SessionStatus, ...]
    objective: str
    explanation: Tuple[str, ...]
    events: EventCounts
    uptime_seconds: float
    draining: bool

    @property
    def placement_setting(self) -> Optional[Placement]:
        """The placement that names `setting`, if one does."""
        return self.setting.placement if self.setting else None

    @property
    def placement(self) -> Optional[Placement]:
        """The placement that names `current`, if one does."""
        return self.current.placement if self.current else None
