"""The state of the whole system: built by the orchestrator, read by the `tandem` command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from common.domain.codec import Codec
from common.domain.models import DEFAULT_MODEL
from common.domain.placement import NodePair, Placement, Stage


@dataclass(frozen=True)
class ServiceEstimate:
    """How fast a stage is on its node: medians over its latest frames.

    Attributes:
        execute_seconds: time in the engine.
        compute_seconds: time in all of the stage's own steps.
        age_seconds: time since the latest of these frames.
    """

    execute_seconds: float
    compute_seconds: float
    age_seconds: float


@dataclass(frozen=True)
class ModelStatus:
    """One model of one server.

    Attributes:
        name: by which streams choose it; empty: the one of streams that name none.
        bundle_name: of the bundle that new streams take, as its manifest calls it.
        bundle_digest: of that bundle.
        note: what a person should know of it, in a sentence; otherwise empty.
        estimate: how fast the server is with it; None until it has served a frame of it.
    """

    name: str
    bundle_name: str
    bundle_digest: str
    note: str = ""
    estimate: Optional[ServiceEstimate] = None


@dataclass(frozen=True)
class StageStatus:
    """One server of one stage.

    Attributes:
        node: name of its node.
        stage: which half of the model it runs.
        address: `host:port` of its gRPC server; `dns:///name:port` of a name that has led to none
            yet.
        healthy: whether it answers and says that it serves.
        reason: why it is not healthy, or is healthy and not chosen yet; otherwise empty.
        replica: which of the node's configured addresses for this stage it is, from 0.
        frames_in_flight: frames on their way to it, in it, and on their way back.
        estimate: how fast it is with the default model; None until it has served a frame of that.
        frames_of_others: frames of other orchestrators in it, by what it told last.
        models: that it serves; none while it does not tell.
    """

    node: str
    stage: Stage
    address: str
    healthy: bool
    reason: str
    replica: int
    frames_in_flight: int
    estimate: Optional[ServiceEstimate]
    frames_of_others: int = 0
    models: Tuple[ModelStatus, ...] = ()


@dataclass(frozen=True)
class LinkStatus:
    """What is known of one direction of a link.

    Attributes:
        source: the sender: a node's name, or `orchestrator`.
        destination: the receiver, likewise.
        bytes_per_second: what the link carries when it is kept busy.
        latency_seconds: round trip of a message without content.
        age_seconds: time since the latest frame that crossed the link.
    """

    source: str
    destination: str
    bytes_per_second: float
    latency_seconds: float
    age_seconds: float


@dataclass(frozen=True)
class PredictedService:
    """What the orchestrator would expect of a node pair if frames were sent there.

    Attributes:
        frames_per_second: throughput with enough frames in flight.
        latency_seconds: time that a frame takes which never waits for another.
        bytes_per_frame: what one frame sends over links, all together.
        energy_joules: energy to compute one frame; None where a node's power is not known.
        bottleneck: what limits the throughput, in words.
        codec: the latent rate that this supposes; None: the bundle's default codec.
    """

    frames_per_second: float
    latency_seconds: float
    bytes_per_frame: float
    energy_joules: Optional[float]
    bottleneck: str
    codec: Optional[Codec] = None


@dataclass(frozen=True)
class PlacementStatus:
    """One node pair.

    Attributes:
        node_pair: the nodes that run the stages.
        available: whether it can serve now.
        reason: why it is unavailable, or excluded by the operator's policy; otherwise empty.
        frames: frames answered with detections since the orchestrator started.
        frames_per_second: the same as a rate, over the last ten seconds.
        prediction: None until both stages and every link of the pair have been measured.
    """

    node_pair: NodePair
    available: bool
    reason: str
    frames: int
    frames_per_second: float
    prediction: Optional[PredictedService]


@dataclass(frozen=True)
class SessionStatus:
    """One client's stream.

    Attributes:
        session_id: as the logs name it.
        node_pair: the nodes that served its latest frame; None before the first.
        frames_answered: number of frames answered so far.
        frames_in_flight: number of frames read and not yet answered.
        codec: by which the features of its latest frame travelled; None: not known.
        codec_reason: why the latent rate is what it is; empty where none is chosen.
        model: that its frames are served by; `DEFAULT_MODEL` where it names none.
    """

    session_id: str
    node_pair: Optional[NodePair]
    frames_answered: int
    frames_in_flight: int
    codec: Optional[Codec] = None
    codec_reason: str = ""
    model: str = DEFAULT_MODEL


@dataclass(frozen=True)
class EventCounts:
    """How often what has happened since the orchestrator started.

    Attributes:
        switches: changes of the active node pair, by reason.
        failovers: stages and routes that became unavailable, by kind of fault.
        retried_frames: frames sent again after their route failed (`replayed_frames` on the wire).
        mirrored_frames: copies of frames sent to measure a node pair that is not in use
            (`probe_frames` on the wire).
    """

    switches: Mapping[str, int]
    failovers: Mapping[str, int]
    retried_frames: int
    mirrored_frames: int


@dataclass(frozen=True)
class ModelChoice:
    """Where streams of one model go.

    Attributes:
        name: by which streams choose the model.
        active_pair: where frames go whose client asked for no node pair; None: nothing can serve.
        placements: as those of `SystemStatus`; frames and their rate are of this model alone.
        explanation: as that of `SystemStatus`, less what is the same for all models.
    """

    name: str
    active_pair: Optional[NodePair]
    placements: Tuple[PlacementStatus, ...]
    explanation: Tuple[str, ...]


@dataclass(frozen=True)
class SystemStatus:
    """Everything that the orchestrator tells of the system.

    Attributes:
        operator_pair: the node pair that the operator has set; None is the automatic choice.
        active_pair: where frames go whose client asked for no node pair; None: nothing can serve.
        stages: each server of each node.
        placements: each node pair: the four named placements first, then all others.
        links: each direction that has been measured.
        sessions: the open client streams.
        objective: what the automatic choice aims at.
        explanation: why the automatic choice is what it is; a sentence or two in each string.
        events: how often the active pair changed, and what failed.
        uptime_seconds: time since the orchestrator started.
        draining: whether the orchestrator is about to end and takes no new streams.
        warnings: what is insecure, and what is wrong with the bundles served; a sentence each.
        models: every model but the default one, to which all other attributes refer where they
            depend on the model; but frames are counted of all models together.
    """

    operator_pair: Optional[NodePair]
    active_pair: Optional[NodePair]
    stages: Tuple[StageStatus, ...]
    placements: Tuple[PlacementStatus, ...]
    links: Tuple[LinkStatus, ...]
    sessions: Tuple[SessionStatus, ...]
    objective: str
    explanation: Tuple[str, ...]
    events: EventCounts
    uptime_seconds: float
    draining: bool
    warnings: Tuple[str, ...] = ()
    models: Tuple[ModelChoice, ...] = ()

    @property
    def placement_setting(self) -> Optional[Placement]:
        """The placement that names `operator_pair`, if one does."""
        return self.operator_pair.placement if self.operator_pair else None

    @property
    def placement(self) -> Optional[Placement]:
        """The placement that names `active_pair`, if one does."""
        return self.active_pair.placement if self.active_pair else None
