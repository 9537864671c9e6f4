"""What the operator wants of a node pair, and which of several predictions meets that best."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Iterable, List, Mapping, Optional, Tuple

from common.domain.codec import LATENT_CODECS
from common.domain.placement import ORCHESTRATOR, NodePair, Placement
from services.orchestrator.decision.prediction import Prediction

# With nothing to tell them apart: both devices at work before one alone.
PREFERRED_ORDER = tuple(
    placement.node_pair
    for placement in (
        Placement.BACKBONE,
        Placement.TRANSFORMER,
        Placement.WORKSTATION,
        Placement.FULL,
    )
)

# Rates so close are equal for all that can be measured.
_EQUAL = 0.01


class Objective(str, Enum):
    """What the choice is for."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"
    BYTES = "bytes"
    ENERGY = "energy"
    ACCURACY = "accuracy"


# To choose a node pair for its throughput is to want all of it; and rates of one bundle are within
# some hundredths of each other's loss.
_SHARP = (Objective.THROUGHPUT, Objective.ACCURACY)


@dataclass(frozen=True)
class Policy:
    """What the operator wants.

    Attributes:
        objective: what the choice is for.
        improvement: how much better, as a share, another node pair must be to replace the active
            one.
        hold_seconds: how long it must have been better; half of that when it is better by three
            times as much.
        frames_may_leave: whether frames may go from the orchestrator's place to another.
        features_may_leave: whether features may go from one node to another.
        located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
    """

    objective: Objective = Objective.THROUGHPUT
    improvement: float = 0.05
    hold_seconds: float = 1.0
    frames_may_leave: bool = True
    features_may_leave: bool = True
    located_at: str = ORCHESTRATOR

    @property
    def chooses_rate(self) -> bool:
        """Whether streams that ask for no codec get the finest latent rate that links carry."""
        return self.objective is Objective.ACCURACY


def exclusion_reason(node_pair: NodePair, policy: Policy) -> str:
    """Why the policy excludes a node pair; empty when it does not."""
    backbone, transformer = node_pair.backbone, node_pair.transformer
    if not policy.frames_may_leave and backbone != policy.located_at:
        return f"frames may not leave {policy.located_at}, and this sends them to {backbone}"
    if not policy.features_may_leave and backbone != transformer:
        return f"features may not leave {backbone}, and this sends them to {transformer}"
    return ""


def exclusions(pairs: Iterable[NodePair], policy: Policy) -> Mapping[NodePair, str]:
    """The node pairs that the policy excludes, each with the reason."""
    reasons = {node_pair: exclusion_reason(node_pair, policy) for node_pair in pairs}
    return {node_pair: reason for node_pair, reason in reasons.items() if reason}


def in_order(pairs: Iterable[NodePair]) -> List[NodePair]:
    """The named placements in their fixed order, then the others by name."""
    positions = {node_pair: position for position, node_pair in enumerate(PREFERRED_ORDER)}
    return sorted(pairs, key=lambda each: (positions.get(each, len(positions)), each.name))


def effective_objective(
    objective: Objective, predictions: Mapping[NodePair, Prediction]
) -> Objective:
    """The objective, or throughput where it is energy and no node's power is known."""
    energies = [each.energy_joules for each in predictions.values() if each.known]
    if objective is Objective.ENERGY and all(energy is None for energy in energies):
        return Objective.THROUGHPUT
    return objective


def best_pairs(
    predictions: Mapping[NodePair, Prediction],
    objective: Objective,
    improvement: float,
    active_pair: Optional[NodePair] = None,
) -> List[NodePair]:
    """The node pairs that none is better than, in the fixed order.

    Pairs as good by the objective are told apart by throughput, then by latency. The active pair
    counts as good as the best until that is better by `improvement`; another has to be closer.

    Args:
        predictions: of the node pairs to choose from; unknown ones are left out.
        objective: what the choice is for.
        improvement: by which share the best has to be better than the active pair.
        active_pair: the one that serves.
    """
    left = [node_pair for node_pair in in_order(predictions) if predictions[node_pair].known]
    for criterion in _criteria(objective):
        costs = {node_pair: cost_of(predictions[node_pair], criterion) for node_pair in left}
        lowest = min(costs.values(), default=0.0)
        tie = improvement / 2 if criterion not in _SHARP else _EQUAL
        left = [
            node_pair
            for node_pair in left
            if costs[node_pair] <= lowest * (1 + (improvement if node_pair == active_pair else tie))
        ]
    return left


def cost_of(prediction: Prediction, criterion: Objective) -> float:
    """What should be small for this criterion; infinite where it is not known."""
    rate = prediction.frames_per_second
    cost = {
        Objective.THROUGHPUT: 1 / rate if rate else None,
        Objective.LATENCY: prediction.latency_seconds,
        Objective.BYTES: prediction.bytes_per_frame,
        Objective.ENERGY: prediction.energy_joules,
        Objective.ACCURACY: _loss(prediction),
    }[criterion]
    return float("inf") if cost is None else cost


def _loss(prediction: Prediction) -> float:
    """1 less the AP of the rate; 0 for the bundle's own codec, which is taken to lose nothing.

    What a rate keeps that was not measured is not taken to be more than what another one does.
    """
    rate = prediction.rate
    if rate is None or rate.codec not in LATENT_CODECS:
        return 0.0
    return 1.0 if rate.average_precision is None else 1 - rate.average_precision


def leading_criterion(objective: Objective) -> Objective:
    """What decides first: each pair takes the most accurate codec that costs it no frames."""
    return _criteria(objective)[0]


def _criteria(objective: Objective) -> Tuple[Objective, ...]:
    if objective is Objective.THROUGHPUT:
        return (Objective.THROUGHPUT,)
    if objective is Objective.ACCURACY:
        return Objective.THROUGHPUT, Objective.ACCURACY, Objective.LATENCY
    criteria = [objective, Objective.THROUGHPUT, Objective.LATENCY]
    return tuple(dict.fromkeys(criteria))
