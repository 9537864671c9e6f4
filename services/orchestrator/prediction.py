"""What a pair of nodes would reach: a pure function of the estimates.

Stages and links work at the same time on different frames, so that the slowest of them sets the
pace; stages on one node take turns on its device, so that their times add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Tuple

from common.domain.placement import NodePair, Stage
from services.orchestrator.measured import Estimates, StageEstimate

# A younger observation of the pair is of now, an older one may be of another load.
_SHARE_MEMORY_SECONDS = 120.0
# What takes less is no limit.
_LEAST_SECONDS_PER_FRAME = 1e-6


@dataclass(frozen=True)
class Prediction:
    """What to expect of a pair of nodes; `None` where it cannot be told yet.

    Attributes:
        pair: which nodes.
        frames_per_second: with enough frames in flight.
        latency_seconds: of a frame that never waits for another.
        bytes_per_frame: that cross between places: the frame, its features, or both.
        energy_joules: of the nodes while they compute; None also where a node's power is unknown.
        bottleneck: what sets the pace, in words.
        unknown: what has to be measured before anything can be told, in words; empty when known.
        assumed: what the prediction takes for granted without a measurement of its own, in words.
        age_seconds: of its oldest measurement.
    """

    pair: NodePair
    frames_per_second: Optional[float] = None
    latency_seconds: Optional[float] = None
    bytes_per_frame: Optional[float] = None
    energy_joules: Optional[float] = None
    bottleneck: str = ""
    unknown: Tuple[str, ...] = ()
    assumed: Tuple[str, ...] = ()
    age_seconds: Optional[float] = None

    @property
    def known(self) -> bool:
        """Whether everything that sets the pace was measured."""
        return not self.unknown


@dataclass(frozen=True)
class Hop:
    """One crossing of a frame, or of its features, between two places."""

    sender: str
    receiver: str
    stage: Stage

    @property
    def name(self) -> str:
        """The link, in words."""
        return f"link {self.sender} to {self.receiver}"

    @property
    def carries(self) -> str:
        """What crosses, in words."""
        return "the frame" if self.stage is Stage.BACKBONE else "its features"

    def payload_bytes(self, estimates: Estimates) -> Optional[float]:
        """What a frame sends over it; None while not known."""
        is_frame = self.stage is Stage.BACKBONE
        return estimates.frame_bytes if is_frame else estimates.feature_bytes


@dataclass(frozen=True)
class Limit:
    """Something that no frame rate can exceed."""

    name: str
    seconds_per_frame: float


def hops(pair: NodePair, located_at: str) -> Tuple[Hop, ...]:
    """Where a pair's frames cross between places, if `located_at` is where frames come from."""
    ways = (
        Hop(located_at, pair.backbone, Stage.BACKBONE),
        Hop(pair.backbone, pair.transformer, Stage.TRANSFORMER),
    )
    return tuple(hop for hop in ways if hop.sender != hop.receiver)


def predict(pair: NodePair, estimates: Estimates, located_at: str) -> Prediction:
    """What `pair` would reach.

    Args:
        pair: which nodes run the stages.
        estimates: what was measured.
        located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR_PLACE`.
    """
    ways = hops(pair, located_at)
    unknown = tuple(_unknown(pair, ways, estimates))
    bytes_per_frame = _bytes_per_frame(ways, estimates)
    if unknown:
        return Prediction(pair, bytes_per_frame=bytes_per_frame, unknown=unknown)
    limits = [compute_limit(pair, estimates), *link_limits(pair, estimates, located_at)]
    slowest = max(limits, key=lambda limit: limit.seconds_per_frame)
    return Prediction(
        pair,
        frames_per_second=1 / max(slowest.seconds_per_frame, _LEAST_SECONDS_PER_FRAME),
        latency_seconds=_latency_seconds(pair, ways, estimates),
        bytes_per_frame=bytes_per_frame,
        energy_joules=_energy_joules(pair, estimates),
        bottleneck=slowest.name,
        assumed=tuple(_assumed(pair, ways, estimates)),
        age_seconds=_age_seconds(pair, ways, estimates),
    )


def compute_limit(pair: NodePair, estimates: Estimates) -> Limit:
    """What the nodes allow, corrected by what the pair was seen to reach."""
    limit = modelled_compute_limit(pair, estimates)
    observed = estimates.pairs.get(pair)
    if observed is None or observed.compute_share is None:
        return limit
    # A rate above the model is proof of what the devices can do; one below it may have passed.
    if observed.compute_share < 1 and observed.age_seconds > _SHARE_MEMORY_SECONDS:
        return limit
    return Limit(limit.name, limit.seconds_per_frame / observed.compute_share)


def modelled_compute_limit(pair: NodePair, estimates: Estimates) -> Limit:
    """What the nodes allow by their execution times alone."""
    backbone, transformer = _stages(pair, estimates)
    if pair.backbone == pair.transformer:
        seconds = backbone.interval_seconds + transformer.interval_seconds
        return Limit(f"both stages on {pair.backbone}", seconds)
    return max(
        Limit(f"backbone on {pair.backbone}", backbone.interval_seconds),
        Limit(f"transformer on {pair.transformer}", transformer.interval_seconds),
        key=lambda limit: limit.seconds_per_frame,
    )


def link_limits(pair: NodePair, estimates: Estimates, located_at: str) -> List[Limit]:
    """What each link on the way allows, where it was measured."""
    limits = []
    for hop in hops(pair, located_at):
        link = estimates.link(hop.sender, hop.receiver)
        payload_bytes = hop.payload_bytes(estimates)
        if link is not None and payload_bytes is not None:
            limits.append(Limit(hop.name, payload_bytes / link.bytes_per_second))
    return limits


def is_measured(pair: NodePair, estimates: Estimates) -> bool:
    """Whether both stages were measured where the pair runs them."""
    return all(key in estimates.stages for key in _stage_keys(pair))


def _stage_keys(pair: NodePair) -> Tuple[Tuple[str, Stage], Tuple[str, Stage]]:
    return (pair.backbone, Stage.BACKBONE), (pair.transformer, Stage.TRANSFORMER)


def _stages(pair: NodePair, estimates: Estimates) -> Tuple[StageEstimate, StageEstimate]:
    backbone, transformer = _stage_keys(pair)
    return estimates.stages[backbone], estimates.stages[transformer]


def _unknown(pair: NodePair, ways: Sequence[Hop], estimates: Estimates) -> Iterator[str]:
    for node, stage in _stage_keys(pair):
        if (node, stage) not in estimates.stages:
            yield f"{stage.value} on {node}"
    for hop in ways:
        if estimates.link(hop.sender, hop.receiver) is None:
            yield hop.name
        if hop.payload_bytes(estimates) is None:
            yield f"bytes over the {hop.name}"


def _assumed(pair: NodePair, ways: Sequence[Hop], estimates: Estimates) -> Iterator[str]:
    for hop in ways:
        link = estimates.links.get((hop.sender, hop.receiver))
        if link is None or link.borrowed:
            yield f"{hop.name} is as fast as the other direction"
    if pair.backbone == pair.transformer and pair not in estimates.pairs:
        yield f"the stages on {pair.backbone} share one device"


def _bytes_per_frame(ways: Sequence[Hop], estimates: Estimates) -> Optional[float]:
    total_bytes = 0.0
    for hop in ways:
        payload_bytes = hop.payload_bytes(estimates)
        if payload_bytes is None:
            return None
        total_bytes += payload_bytes
    return total_bytes


def _latency_seconds(pair: NodePair, ways: Sequence[Hop], estimates: Estimates) -> float:
    seconds = sum(stage.compute_seconds for stage in _stages(pair, estimates))
    for hop in ways:
        link = estimates.link(hop.sender, hop.receiver)
        payload_bytes = hop.payload_bytes(estimates)
        if link is not None and payload_bytes is not None:
            seconds += link.latency_seconds + payload_bytes / link.bytes_per_second
    return seconds


def _energy_joules(pair: NodePair, estimates: Estimates) -> Optional[float]:
    joules = 0.0
    for (node, _), stage in zip(_stage_keys(pair), _stages(pair, estimates)):
        if node not in estimates.watts:
            return None
        joules += estimates.watts[node] * stage.compute_seconds
    return joules


def _age_seconds(pair: NodePair, ways: Sequence[Hop], estimates: Estimates) -> float:
    ages = [stage.age_seconds for stage in _stages(pair, estimates)]
    for hop in ways:
        link = estimates.link(hop.sender, hop.receiver)
        if link is not None:
            ages.append(link.age_seconds)
    return max(ages)
