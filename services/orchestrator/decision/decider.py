"""Keeps the node pair that serves: a rule over predictions, with hysteresis; no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Iterator, Mapping, Optional, Sequence

from common.domain.placement import NodePair
from services.orchestrator.decision.policy import (
    Objective,
    Policy,
    best_pairs,
    cost_of,
    effective_objective,
    exclusions,
    in_order,
    leading_criterion,
)
from services.orchestrator.decision.prediction import Prediction, predict
from services.orchestrator.estimation.estimates import Estimates

# Reason of the first choice.
START = "start"

# A gain so many times the one needed has to last only this part of the hold.
_LARGE_GAIN = 3.0
_LARGE_GAIN_HOLD = 0.5


@dataclass(frozen=True)
class Decision:
    """The node pair that serves, and what it was chosen by.

    Attributes:
        node_pair: the pair that serves; None when none can.
        reason: why it was chosen when it was: `start`, `better`, `unavailable` or `policy`.
        changed: whether it replaces another one (or none) by this decision.
        objective: what it was chosen by; not the policy's objective where that cannot be told.
        predictions: one for each node pair, the excluded and the unavailable ones included.
        excluded: the node pairs that the policy excludes, each with the reason.
        unavailable: the node pairs that cannot serve, each with the reason.
        challenger: a better node pair that has not been better for long enough yet.
        challenger_seconds: for how long it has been.
    """

    node_pair: Optional[NodePair]
    reason: str
    changed: bool
    objective: Objective
    predictions: Mapping[NodePair, Prediction] = field(default_factory=dict)
    excluded: Mapping[NodePair, str] = field(default_factory=dict)
    unavailable: Mapping[NodePair, str] = field(default_factory=dict)
    challenger: Optional[NodePair] = None
    challenger_seconds: float = 0.0

    def predicted_latency_seconds(self, node_pair: NodePair) -> float:
        """Latency of a frame on a node pair, as predicted; 0 while that is not known."""
        prediction = self.predictions.get(node_pair)
        return (prediction.latency_seconds if prediction else None) or 0.0

    def by_preference(self, pairs: Collection[NodePair]) -> Iterator[NodePair]:
        """Those of `pairs` that are not excluded: the chosen one, then the faster ones first."""

        def slowness(node_pair: NodePair) -> float:
            prediction = self.predictions.get(node_pair)
            known = prediction.frames_per_second if prediction else None
            return -(known or 0.0)

        chosen = self.node_pair
        if chosen is not None and chosen in pairs and chosen not in self.excluded:
            # Nearly every frame takes it, and needs no order of the others.
            yield chosen
        others = (each for each in pairs if each != chosen and each not in self.excluded)
        yield from sorted(others, key=slowness)


class Decider:
    """Keeps the node pair that serves.

    It is replaced at once when it cannot serve, and otherwise only for a lasting gain.

    Attributes:
        policy: what the operator wants; may be replaced at any time.
        node_pair: the pair that serves; None when none can.
    """

    def __init__(self, policy: Policy) -> None:
        """Begin with no node pair."""
        self.policy = policy
        self.node_pair: Optional[NodePair] = None
        self._reason = ""
        self._challenger: Optional[NodePair] = None
        self._challenged_at = 0.0

    def decide(
        self,
        now: float,
        usable: Sequence[NodePair],
        estimates: Estimates,
        unavailable: Optional[Mapping[NodePair, str]] = None,
    ) -> Decision:
        """Choose; call it at regular intervals, and whenever a stage comes or goes.

        Args:
            now: seconds, of any steady clock.
            usable: the node pairs that can serve.
            estimates: what was measured.
            unavailable: the other node pairs, and why they cannot serve; to be told, not to
                choose by.
        """
        unavailable = unavailable or {}
        pairs = in_order({*usable, *unavailable})
        policy = self.policy
        predictions = {
            each: predict(each, estimates, policy.located_at, chooses_rate=policy.chooses_rate)
            for each in pairs
        }
        excluded = exclusions(pairs, self.policy)
        choice = {each: predictions[each] for each in usable if each not in excluded}
        objective = effective_objective(self.policy.objective, choice)
        before = self.node_pair
        if before is None or before not in choice:
            self._replace(choice, objective, is_excluded=before in excluded)
        else:
            self._challenge(now, before, choice, objective)
        return Decision(
            node_pair=self.node_pair,
            reason=self._reason,
            changed=self.node_pair != before,
            objective=objective,
            predictions=predictions,
            excluded=excluded,
            unavailable=unavailable,
            challenger=self._challenger,
            challenger_seconds=now - self._challenged_at if self._challenger else 0.0,
        )

    def _replace(
        self, choice: Mapping[NodePair, Prediction], objective: Objective, *, is_excluded: bool
    ) -> None:
        """Take the best of what there is, now; the measured before the unmeasured."""
        best = best_pairs(choice, objective, self.policy.improvement) or in_order(choice)
        if is_excluded:
            self._reason = "policy"
        elif self.node_pair is None and self._reason in {"", START}:
            self._reason = START
        else:
            self._reason = "unavailable"
        self.node_pair = best[0] if best else None
        self._challenger = None

    def _challenge(
        self,
        now: float,
        active_pair: NodePair,
        choice: Mapping[NodePair, Prediction],
        objective: Objective,
    ) -> None:
        """Take a better node pair if one has been better for long enough."""
        best = best_pairs(choice, objective, self.policy.improvement, active_pair)
        if not best:
            # Nothing is measured: which stage happened to be healthy first says nothing either.
            self.node_pair = in_order(choice)[0]
        if not choice[active_pair].known or not best or active_pair in best:
            self._challenger = None
            return
        # Which one is best may vary; that the active one is not good enough must last.
        if self._challenger is None:
            self._challenged_at = now
        self._challenger = best[0]
        hold_seconds = self.policy.hold_seconds
        gain = _gain(choice[best[0]], choice[active_pair], objective)
        if gain > _LARGE_GAIN * self.policy.improvement:
            hold_seconds *= _LARGE_GAIN_HOLD
        if now - self._challenged_at >= hold_seconds:
            self.node_pair, self._reason, self._challenger = best[0], "better", None


def _gain(challenger: Prediction, active: Prediction, objective: Objective) -> float:
    """By which share the challenger is better by the objective; 0 when it is not by that."""
    criterion = leading_criterion(objective)
    cost = cost_of(challenger, criterion)
    return cost_of(active, criterion) / cost - 1 if cost > 0 else float("inf")
