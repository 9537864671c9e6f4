"""What a node pair would reach: a pure function of the estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterator, Optional, Sequence, Tuple

from common.domain.placement import NodePair
from services.orchestrator.decision.rates import (
    RateDemand,
    RateOption,
    choose_rate,
    rate_options,
)
from services.orchestrator.estimation.estimates import Estimates
from services.orchestrator.estimation.limits import (
    Link,
    compute_limit,
    encoding_limits,
    engine_frames_per_second,
    link_limits,
    links_of,
    stage_keys,
    stages_of,
)

# What takes less is no limit.
_LEAST_SECONDS_PER_FRAME = 1e-6


@dataclass(frozen=True)
class Prediction:
    """What to expect of a node pair; `None` where that cannot be told yet.

    Attributes:
        node_pair: which nodes.
        frames_per_second: throughput with enough frames in flight.
        latency_seconds: time that a frame takes which never waits for another.
        bytes_per_frame: what one frame sends over links: the picture, its features, or both.
        energy_joules: what the nodes draw while they compute one frame; None also where a node's
            power is not known.
        bottleneck: what sets the pace, in words.
        unknown: what has to be measured before anything can be told, in words; empty when all is
            known.
        assumed: what the prediction takes for granted without a measurement of its own, in words.
        age_seconds: age of its oldest measurement.
        rate: the latent rate that this supposes; None: features travel as they do for streams for
            which none is chosen.
        why_rate: why it is that one, in words.
    """

    node_pair: NodePair
    frames_per_second: Optional[float] = None
    latency_seconds: Optional[float] = None
    bytes_per_frame: Optional[float] = None
    energy_joules: Optional[float] = None
    bottleneck: str = ""
    unknown: Tuple[str, ...] = ()
    assumed: Tuple[str, ...] = ()
    age_seconds: Optional[float] = None
    rate: Optional[RateOption] = None
    why_rate: str = ""

    @property
    def known(self) -> bool:
        """Whether everything that sets the pace was measured."""
        return not self.unknown


def predict(
    node_pair: NodePair, estimates: Estimates, located_at: str, *, chooses_rate: bool = False
) -> Prediction:
    """What a node pair would reach.

    Args:
        node_pair: which nodes run the stages.
        estimates: what was measured.
        located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
        chooses_rate: whether features take the finest latent rate that does not hold the stages
            back, where there is a bottleneck.
    """
    options = _options(node_pair, estimates) if chooses_rate else ()
    if not options:
        return _predict(node_pair, estimates, located_at)
    demand = _demand(node_pair, estimates)
    rate = choose_rate(None, options, demand, 0.0)
    option = next(each for each in options if each.codec is rate.codec)
    prediction = _predict(node_pair, estimates.with_features(option.payload_bytes), located_at)
    return replace(prediction, rate=option, why_rate=rate.why)


def _options(node_pair: NodePair, estimates: Estimates) -> Sequence[RateOption]:
    """The rates that there are to choose from; none where features cross no link."""
    if node_pair.backbone == node_pair.transformer:
        return ()
    return rate_options(node_pair, estimates)


def _demand(node_pair: NodePair, estimates: Estimates) -> RateDemand:
    """As many frames as the stages can serve."""
    link = estimates.link(node_pair.backbone, node_pair.transformer)
    frames_per_second = engine_frames_per_second(node_pair, estimates)
    known = link is not None and frames_per_second is not None
    return RateDemand(frames_per_second or 0.0, link.bytes_per_second if link and known else None)


def _predict(node_pair: NodePair, estimates: Estimates, located_at: str) -> Prediction:
    links = links_of(node_pair, located_at)
    unknown = tuple(_unknown(node_pair, links, estimates))
    bytes_per_frame = _bytes_per_frame(links, estimates)
    if unknown:
        return Prediction(node_pair, bytes_per_frame=bytes_per_frame, unknown=unknown)
    limits = [compute_limit(node_pair, estimates), *link_limits(node_pair, estimates, located_at)]
    limits += encoding_limits(node_pair, estimates, located_at)
    slowest = max(limits, key=lambda limit: limit.seconds_per_frame)
    return Prediction(
        node_pair,
        frames_per_second=1 / max(slowest.seconds_per_frame, _LEAST_SECONDS_PER_FRAME),
        latency_seconds=_latency_seconds(node_pair, links, estimates),
        bytes_per_frame=bytes_per_frame,
        energy_joules=_energy_joules(node_pair, estimates),
        bottleneck=slowest.name,
        assumed=tuple(_assumed(node_pair, links, estimates)),
        age_seconds=_age_seconds(node_pair, links, estimates),
    )


def _unknown(node_pair: NodePair, links: Sequence[Link], estimates: Estimates) -> Iterator[str]:
    for node, stage in stage_keys(node_pair):
        if (node, stage) not in estimates.stages:
            yield f"{stage.value} on {node}"
    for link in links:
        if link.estimate(estimates) is None:
            yield link.name
        if link.payload_bytes(estimates) is None:
            yield f"bytes over the {link.name}"


def _assumed(node_pair: NodePair, links: Sequence[Link], estimates: Estimates) -> Iterator[str]:
    for link in links:
        own_direction = estimates.links.get((link.sender, link.receiver))
        if own_direction is None or own_direction.borrowed:
            yield f"{link.name} is as fast as the other direction"
    if node_pair.backbone == node_pair.transformer and node_pair not in estimates.pairs:
        yield f"the stages on {node_pair.backbone} share one device"


def _bytes_per_frame(links: Sequence[Link], estimates: Estimates) -> Optional[float]:
    total_bytes = 0.0
    for link in links:
        payload_bytes = link.payload_bytes(estimates)
        if payload_bytes is None:
            return None
        total_bytes += payload_bytes
    return total_bytes


def _latency_seconds(node_pair: NodePair, links: Sequence[Link], estimates: Estimates) -> float:
    seconds = sum(stage.compute_seconds for stage in stages_of(node_pair, estimates))
    for link in links:
        estimate, payload_seconds = link.estimate(estimates), link.payload_seconds(estimates)
        if estimate is not None and payload_seconds is not None:
            seconds += estimate.latency_seconds + payload_seconds
        seconds += link.encode_seconds(estimates)
    return seconds


def _energy_joules(node_pair: NodePair, estimates: Estimates) -> Optional[float]:
    joules = 0.0
    for (node, _), stage in zip(stage_keys(node_pair), stages_of(node_pair, estimates)):
        if node not in estimates.watts:
            return None
        joules += estimates.watts[node] * stage.compute_seconds
    return joules


def _age_seconds(node_pair: NodePair, links: Sequence[Link], estimates: Estimates) -> float:
    ages = [stage.age_seconds for stage in stages_of(node_pair, estimates)]
    known_links = [link.estimate(estimates) for link in links]
    return max([*ages, *(link.age_seconds for link in known_links if link is not None)])
