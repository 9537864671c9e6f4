"""What limits the throughput of a node pair: its stages and the links between its places.

Stages and links work at the same time on different frames, so the slowest of them sets the pace.
Stages on one node take turns on its device, so their times add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

from common.domain.placement import NodePair, Stage
from services.orchestrator.estimation.estimates import Estimates, LinkEstimate, StageEstimate
from services.orchestrator.estimation.link_rates import MESSAGE_OVERHEAD_BYTES

# A younger observation of the node pair is of now, an older one may be of another load.
_SHARE_MEMORY_SECONDS = 120.0
# What takes less is no limit.
_LEAST_SECONDS_PER_FRAME = 1e-6


@dataclass(frozen=True)
class Link:
    """One direction of a connection between two places, and what it carries.

    Attributes:
        sender: place that frames or features come from.
        receiver: place that they go to.
        stage: the stage at the receiver; the backbone gets frames, the transformer features.
    """

    sender: str
    receiver: str
    stage: Stage

    @property
    def name(self) -> str:
        """The link, in words."""
        return f"link {self.sender} to {self.receiver}"

    @property
    def carries(self) -> str:
        """What the link carries, in words."""
        return "the frame" if self.stage is Stage.BACKBONE else "its features"

    def payload_bytes(self, estimates: Estimates) -> Optional[float]:
        """Bytes that one frame sends over the link; None while they are not known."""
        is_frame = self.stage is Stage.BACKBONE
        return estimates.frame_bytes if is_frame else estimates.feature_bytes

    def encode_seconds(self, estimates: Estimates) -> float:
        """How long a frame is encoded before it crosses the link; 0 if it crosses as it came."""
        return estimates.encode_seconds if self.stage is Stage.BACKBONE else 0.0

    def estimate(self, estimates: Estimates) -> Optional[LinkEstimate]:
        """What is known of the link; None while neither direction has been measured."""
        return estimates.link(self.sender, self.receiver)

    def payload_seconds(self, estimates: Estimates) -> Optional[float]:
        """How long one frame's payload occupies the link; None while that is not known."""
        link, payload_bytes = self.estimate(estimates), self.payload_bytes(estimates)
        if link is None or payload_bytes is None:
            return None
        return (payload_bytes + MESSAGE_OVERHEAD_BYTES) / link.bytes_per_second


@dataclass(frozen=True)
class Limit:
    """Something that no frame rate can exceed.

    Attributes:
        name: what it is, in words.
        seconds_per_frame: the least time between two frames.
    """

    name: str
    seconds_per_frame: float


def links_of(node_pair: NodePair, located_at: str) -> Tuple[Link, ...]:
    """The links that a node pair's frames and features cross; none within one place.

    Args:
        node_pair: the nodes that run the stages.
        located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
    """
    links = (
        Link(located_at, node_pair.backbone, Stage.BACKBONE),
        Link(node_pair.backbone, node_pair.transformer, Stage.TRANSFORMER),
    )
    return tuple(link for link in links if link.sender != link.receiver)


def stage_keys(node_pair: NodePair) -> Tuple[Tuple[str, Stage], Tuple[str, Stage]]:
    """The keys of a node pair's stages in `Estimates.stages`."""
    return (node_pair.backbone, Stage.BACKBONE), (node_pair.transformer, Stage.TRANSFORMER)


def stages_of(node_pair: NodePair, estimates: Estimates) -> Tuple[StageEstimate, StageEstimate]:
    """What is known of a node pair's stages, which both have been measured."""
    backbone, transformer = stage_keys(node_pair)
    return estimates.stages[backbone], estimates.stages[transformer]


def is_measured(node_pair: NodePair, estimates: Estimates) -> bool:
    """Whether both stages have been measured on the nodes that run them."""
    return all(key in estimates.stages for key in stage_keys(node_pair))


def compute_limit(node_pair: NodePair, estimates: Estimates) -> Limit:
    """What the nodes allow, corrected by what the node pair was seen to reach."""
    limit = modelled_compute_limit(node_pair, estimates)
    observed = estimates.pairs.get(node_pair)
    if observed is None or observed.compute_share is None:
        return limit
    # A rate above the model is proof of what the devices can do; one below it may have passed.
    if observed.compute_share < 1 and observed.age_seconds > _SHARE_MEMORY_SECONDS:
        return limit
    return Limit(limit.name, limit.seconds_per_frame / observed.compute_share)


def engine_frames_per_second(node_pair: NodePair, estimates: Estimates) -> Optional[float]:
    """Frames a second that the nodes can serve; None while a stage is not measured."""
    if not is_measured(node_pair, estimates):
        return None
    return 1 / max(compute_limit(node_pair, estimates).seconds_per_frame, _LEAST_SECONDS_PER_FRAME)


def modelled_compute_limit(node_pair: NodePair, estimates: Estimates) -> Limit:
    """What the nodes allow by their execution times alone."""
    backbone, transformer = stages_of(node_pair, estimates)
    if node_pair.backbone == node_pair.transformer:
        seconds = backbone.interval_seconds + transformer.interval_seconds
        return Limit(f"both stages on {node_pair.backbone}", seconds)
    return max(
        Limit(f"backbone on {node_pair.backbone}", backbone.interval_seconds),
        Limit(f"transformer on {node_pair.transformer}", transformer.interval_seconds),
        key=lambda limit: limit.seconds_per_frame,
    )


def encoding_limits(node_pair: NodePair, estimates: Estimates, located_at: str) -> List[Limit]:
    """What encoding frames for a link allows one session; those of several work side by side."""
    seconds = [link.encode_seconds(estimates) for link in links_of(node_pair, located_at)]
    return [Limit("encoding frames for the link", each) for each in seconds if each]


def link_limits(node_pair: NodePair, estimates: Estimates, located_at: str) -> List[Limit]:
    """What each of a node pair's links allows, as far as it has been measured."""
    limits = []
    for link in links_of(node_pair, located_at):
        seconds = link.payload_seconds(estimates)
        if seconds is not None:
            limits.append(Limit(link.name, seconds))
    return limits
