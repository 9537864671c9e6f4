"""What is known of stages, links and node pairs: frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Mapping, Optional, Tuple

from common.domain.codec import Codec, RateFigures
from common.domain.placement import NodePair, Stage
from common.domain.video import FrameCodec

LinkKey = Tuple[str, str]


@dataclass(frozen=True)
class StageEstimate:
    """One stage on one node.

    Attributes:
        execute_seconds: time of one frame in the engine while the node's other stage is idle, as
            far as that was seen.
        compute_seconds: time of one frame in all of the stage's steps, without waits.
        frames: number of frames measured so far.
        age_seconds: time since the latest of them.
        replicas: number of processes that share the frames.
    """

    execute_seconds: float
    compute_seconds: float
    frames: int
    age_seconds: float
    replicas: int = 1

    @property
    def interval_seconds(self) -> float:
        """The time between two frames when the stage is kept busy."""
        return self.execute_seconds / self.replicas


@dataclass(frozen=True)
class LinkEstimate:
    """One direction of a link.

    Attributes:
        bytes_per_second: what it carries when it is kept busy.
        latency_seconds: round trip of a message that carries next to nothing.
        age_seconds: time since the latest measurement.
        borrowed: whether the other direction was measured in its place.
        carried_bytes_per_second: what it carried over the latest second; 0 where it was idle.
    """

    bytes_per_second: float
    latency_seconds: float
    age_seconds: float
    borrowed: bool = False
    carried_bytes_per_second: float = 0.0


@dataclass(frozen=True)
class PayloadEstimate:
    """The features of a frame by one codec.

    Attributes:
        payload_bytes: mean over the latest frames.
        age_seconds: time since the latest of them.
    """

    payload_bytes: float
    age_seconds: float


@dataclass(frozen=True)
class PairEstimate:
    """What a node pair reached while sessions kept it saturated.

    Attributes:
        frames_per_second: the latest rate reached.
        age_seconds: time since the pair reached that rate.
        compute_share: the rate reached while no link was the limit, as a share of what the
            execution times alone allow: below 1 where something else holds the pair back, above 1
            where a node's stages do not share one device; None while that has not been seen.
    """

    frames_per_second: float
    age_seconds: float
    compute_share: Optional[float] = None


@dataclass(frozen=True)
class Estimates:
    """Everything that a prediction is made of.

    Attributes:
        stages: every stage that has been measured, by node and stage.
        links: every link of which a direction has been measured, by sender and receiver.
        pairs: every node pair that has been saturated.
        frame_bytes: mean size of a frame on the way to a backbone; None before the first. Where
            pictures are encoded for links it is the size that they have there.
        feature_bytes: mean size of a frame's encoded features; None before the first.
        frame_codec: that pictures are encoded by before they cross a link; None: they cross it as
            they came.
        encode_seconds: how long that takes for one of them; 0 before the first.
        watts: power of each node at work, where it is known.
        codecs: what features take by each codec that frames have used.
        latent_rates: by the backbone's node: what the rates of its bundle's bottleneck cost and
            keep, the finest first.
        default_codecs: by the backbone's node: the default of its bundle.
    """

    stages: Mapping[Tuple[str, Stage], StageEstimate] = field(default_factory=dict)
    links: Mapping[LinkKey, LinkEstimate] = field(default_factory=dict)
    pairs: Mapping[NodePair, PairEstimate] = field(default_factory=dict)
    frame_bytes: Optional[float] = None
    feature_bytes: Optional[float] = None
    frame_codec: Optional[FrameCodec] = None
    encode_seconds: float = 0.0
    watts: Mapping[str, float] = field(default_factory=dict)
    codecs: Mapping[Codec, PayloadEstimate] = field(default_factory=dict)
    latent_rates: Mapping[str, Tuple[RateFigures, ...]] = field(default_factory=dict)
    default_codecs: Mapping[str, Codec] = field(default_factory=dict)

    def with_features(self, payload_bytes: float) -> Estimates:
        """The same for frames whose features take so many bytes."""
        return replace(self, feature_bytes=payload_bytes)

    def link(self, sender: str, receiver: str) -> Optional[LinkEstimate]:
        """The link from `sender` to `receiver`; the other direction where only that is known."""
        return self.links.get((sender, receiver)) or self.links.get((receiver, sender))
