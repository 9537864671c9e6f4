"""Which pair of nodes serves: a rule over predictions, with hysteresis; no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from common.domain.placement import NodePair, Placement
from services.orchestrator.measured import ORCHESTRATOR_PLACE, Estimates
from services.orchestrator.prediction import Prediction, predict

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

# Reason of the first choice.
START = "start"

# Rates so close are equal for all that can be measured.
_EQUAL = 0.01
# A gain so many times the one needed has to last only this part of the hold.
_LARGE_GAIN = 3.0
_LARGE_GAIN_HOLD = 0.5


class Objective(str, Enum):
    """What the choice is for."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"
    BYTES = "bytes"
    ENERGY = "energy"


@dataclass(frozen=True)
class Policy:
    """What the operator wants.

    Attributes:
        objective: what the choice is for.
        improvement: how much better, as a share, another pair must be to replace the present one.
        hold_seconds: how long it must have been so; half of that when it is three times as much.
        frames_may_leave: whether frames may go from the orchestrator's place to another.
        features_may_leave: whether features may go from one node to another.
        located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR_PLACE`.
    """

    objective: Objective = Objective.THROUGHPUT
    improvement: float = 0.10
    hold_seconds: float = 1.0
    frames_may_leave: bool = True
    features_may_leave: bool = True
    located_at: str = ORCHESTRATOR_PLACE


@dataclass(frozen=True)
class Decision:
    """The pair that serves, and what it was chosen by.

    Attributes:
        pair: None when no pair can serve.
        reason: what it was chosen for when it was: `start`, `better`, `unavailable` or `policy`.
        changed: whether it replaces another one (or none) by this decision.
        objective: by which it was chosen; not the policy's where that cannot be told.
        predictions: of every pair, ruled out and down ones included.
        ruled_out: why, by pair; those that the policy forbids.
        down: why, by pair; those that cannot serve.
        challenger: a better pair that is not better for long enough yet.
        challenger_seconds: for how long it has been.
    """

    pair: Optional[NodePair]
    reason: str
    changed: bool
    objective: Objective
    predictions: Mapping[NodePair, Prediction] = field(default_factory=dict)
    ruled_out: Mapping[NodePair, str] = field(default_factory=dict)
    down: Mapping[NodePair, str] = field(default_factory=dict)
    challenger: Optional[NodePair] = None
    challenger_seconds: float = 0.0


def ruled_out(pair: NodePair, policy: Policy) -> str:
    """Why the policy forbids a pair; empty when it does not."""
    if not policy.frames_may_leave and pair.backbone != policy.located_at:
        return f"frames may not leave {policy.located_at}, and this sends them to {pair.backbone}"
    if not policy.features_may_leave and pair.backbone != pair.transformer:
        return f"features may not leave {pair.backbone}, and this sends them to {pair.transformer}"
    return ""


def in_order(pairs: Iterable[NodePair]) -> List[NodePair]:
    """The named placements in their fixed order, then the others by name."""
    places = {pair: place for place, pair in enumerate(PREFERRED_ORDER)}
    return sorted(pairs, key=lambda pair: (places.get(pair, len(places)), pair.name))


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
    current: Optional[NodePair] = None,
) -> List[NodePair]:
    """The pairs that none is better than, in the fixed order.

    Pairs as good by the objective are told apart by throughput, then by latency. The current pair
    counts as good as the best until that is better by `improvement`; another has to be closer.

    Args:
        predictions: of the pairs to choose from; unknown ones are left out.
        objective: what the choice is for.
        improvement: by which share the best has to be better than the current pair.
        current: the pair that serves.
    """
    left = [pair for pair in in_order(predictions) if predictions[pair].known]
    for criterion in _criteria(objective):
        costs = {pair: _cost(predictions[pair], criterion) for pair in left}
        lowest = min(costs.values(), default=0.0)
        tie = improvement / 2 if criterion not in _SHARP else _EQUAL
        left = [
            pair
            for pair in left
            if costs[pair] <= lowest * (1 + (improvement if pair == current else tie))
        ]
    return left


# To choose a pair for its throughput is to want all of it.
_SHARP = (Objective.THROUGHPUT,)


def _criteria(objective: Objective) -> Tuple[Objective, ...]:
    if objective is Objective.THROUGHPUT:
        return (Objective.THROUGHPUT,)
    criteria = [objective, Objective.THROUGHPUT, Objective.LATENCY]
    return tuple(dict.fromkeys(criteria))


def _cost(prediction: Prediction, criterion: Objective) -> float:
    """What is to be small; infinite where it is not known."""
    rate = prediction.frames_per_second
    cost = {
        Objective.THROUGHPUT: 1 / rate if rate else None,
        Objective.LATENCY: prediction.latency_seconds,
        Objective.BYTES: prediction.bytes_per_frame,
        Objective.ENERGY: prediction.energy_joules,
    }[criterion]
    return float("inf") if cost is None else cost


class Decider:
    """Keeps the pair that serves; changes it at once when it cannot, else only for a lasting gain.

    Attributes:
        policy: what the operator wants; may be replaced at any time.
        pair: the pair that serves; None when none can.
    """

    def __init__(self, policy: Policy) -> None:
        """Begin with no pair."""
        self.policy = policy
        self.pair: Optional[NodePair] = None
        self._reason = ""
        self._challenger: Optional[NodePair] = None
        self._challenged_at = 0.0

    def decide(
        self,
        now: float,
        usable: Sequence[NodePair],
        estimates: Estimates,
        down: Optional[Mapping[NodePair, str]] = None,
    ) -> Decision:
        """Choose; call it at regular intervals, and whenever a stage comes or goes.

        Args:
            now: seconds, of any steady clock.
            usable: the pairs whose stages are all up.
            estimates: what was measured.
            down: the other pairs, and why they cannot serve; to be told, not to choose by.
        """
        down = down or {}
        forbidden = self._forbidden([*usable, *down])
        predictions: Dict[NodePair, Prediction] = {
            pair: predict(pair, estimates, self.policy.located_at)
            for pair in in_order({*usable, *down})
        }
        choice = {pair: predictions[pair] for pair in usable if pair not in forbidden}
        objective = effective_objective(self.policy.objective, choice)
        before = self.pair
        if before is None or before not in choice:
            self._replace(choice, objective, forbidden)
        else:
            self._challenge(now, before, choice, objective)
        return Decision(
            pair=self.pair,
            reason=self._reason,
            changed=self.pair != before,
            objective=objective,
            predictions=predictions,
            ruled_out=forbidden,
            down=down,
            challenger=self._challenger,
            challenger_seconds=now - self._challenged_at if self._challenger else 0.0,
        )

    def _forbidden(self, pairs: Iterable[NodePair]) -> Dict[NodePair, str]:
        reasons = {pair: ruled_out(pair, self.policy) for pair in pairs}
        return {pair: reason for pair, reason in reasons.items() if reason}

    def _replace(
        self,
        choice: Mapping[NodePair, Prediction],
        objective: Objective,
        forbidden: Mapping[NodePair, str],
    ) -> None:
        """Take the best of what there is, now; the measured before the unmeasured."""
        best = best_pairs(choice, objective, self.policy.improvement) or in_order(choice)
        if self.pair in forbidden:
            self._reason = "policy"
        elif self.pair is None and self._reason in {"", START}:
            self._reason = START
        else:
            self._reason = "unavailable"
        self.pair = best[0] if best else None
        self._challenger = None

    def _challenge(
        self,
        now: float,
        current: NodePair,
        choice: Mapping[NodePair, Prediction],
        objective: Objective,
    ) -> None:
        """Take a better pair if one has been better for long enough."""
        best = best_pairs(choice, objective, self.policy.improvement, current)
        if not best:
            # Nothing is measured: which stage happened to be up first says nothing either.
            self.pair = in_order(choice)[0]
        if not choice[current].known or not best or current in best:
            self._challenger = None
            return
        # Which one is best may vary; that the current is not good enough must last.
        if self._challenger is None:
            self._challenged_at = now
        self._challenger = best[0]
        hold_seconds = self.policy.hold_seconds
        if self._gain(choice, objective, current) > _LARGE_GAIN * self.policy.improvement:
            hold_seconds *= _LARGE_GAIN_HOLD
        if now - self._challenged_at >= hold_seconds:
            self.pair, self._reason, self._challenger = best[0], "better", None

    def _gain(
        self, choice: Mapping[NodePair, Prediction], objective: Objective, current: NodePair
    ) -> float:
        """By which share the challenger is better by the objective; 0 when it is not by that."""
        if self._challenger is None:
            return 0.0
        cost = _cost(choice[self._challenger], objective)
        return _cost(choice[current], objective) / cost - 1 if cost > 0 else float("inf")
