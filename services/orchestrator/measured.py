"""What is known of stages, links and pairs of nodes: frozen values, without any server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from common.domain.placement import NodePair, Stage

# The orchestrator's own place when it runs on none of the nodes.
ORCHESTRATOR_PLACE = "orchestrator"

LinkKey = Tuple[str, str]


@dataclass(frozen=True)
class StageEstimate:
    """One stage on one node.

    Attributes:
        execute_seconds: in the engine, a frame, while the node's other stage is idle, as far as
            that was seen.
        compute_seconds: all steps of a frame, without waits.
        frames: measured so far.
        age_seconds: since the latest of them.
        replicas: processes that share the frames.
    """

    execute_seconds: float
    compute_seconds: float
    frames: int
    age_seconds: float
    replicas: int = 1

    @property
    def interval_seconds(self) -> float:
        """Between two frames when it is kept busy."""
        return self.execute_seconds / self.replicas


@dataclass(frozen=True)
class LinkEstimate:
    """One direction between two places.

    Attributes:
        bytes_per_second: what it carries when it is kept busy.
        latency_seconds: of a message that carries next to nothing and its answer, both ways.
        age_seconds: since the latest measurement.
        borrowed: whether the other direction was measured in its place.
    """

    bytes_per_second: float
    latency_seconds: float
    age_seconds: float
    borrowed: bool = False


@dataclass(frozen=True)
class PairEstimate:
    """What a pair of nodes reached while sessions kept it saturated.

    Attributes:
        frames_per_second: the latest rate reached.
        age_seconds: since it was.
        compute_share: rate reached, as a share of what the execution times alone allow, from when
            no link was the limit: below 1 where something else holds the pair back, above 1 where
            a node's stages do not share one device; None while not seen.
    """

    frames_per_second: float
    age_seconds: float
    compute_share: Optional[float] = None


@dataclass(frozen=True)
class Estimates:
    """Everything that a prediction is made of.

    Attributes:
        stages: by node and stage; those never measured are absent.
        links: by sender's and receiver's place; absent when neither direction was measured.
        pairs: those that were saturated.
        frame_bytes: of one encoded frame; None before the first.
        feature_bytes: of one frame's encoded features; None before the first.
        watts: power of each node at work, where it is known.
    """

    stages: Mapping[Tuple[str, Stage], StageEstimate] = field(default_factory=dict)
    links: Mapping[LinkKey, LinkEstimate] = field(default_factory=dict)
    pairs: Mapping[NodePair, PairEstimate] = field(default_factory=dict)
    frame_bytes: Optional[float] = None
    feature_bytes: Optional[float] = None
    watts: Mapping[str, float] = field(default_factory=dict)

    def link(self, sender: str, receiver: str) -> Optional[LinkEstimate]:
        """From `sender` to `receiver`; the other direction where that is all there is."""
        return self.links.get((sender, receiver)) or self.links.get((receiver, sender))
