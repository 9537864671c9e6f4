"""A decision in words."""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

from common.domain.placement import NodePair
from services.orchestrator.decision.decider import Decision
from services.orchestrator.decision.policy import Objective, Policy
from services.orchestrator.decision.prediction import Prediction
from services.orchestrator.estimation.estimates import Estimates, LinkEstimate, StageEstimate
from services.orchestrator.estimation.limits import links_of

_AIMS = {
    Objective.THROUGHPUT: "the most frames a second",
    Objective.LATENCY: "the shortest latency",
    Objective.BYTES: "the fewest bytes between places",
    Objective.ENERGY: "the least energy a frame",
    Objective.ACCURACY: "the most frames a second, by the most accurate codec that links carry",
}
_REASONS = {
    "start": "It was the best that was known at the start.",
    "better": "It replaced one that was worse for long enough.",
    "unavailable": "It replaced one that could not serve.",
    "policy": "It replaced one that the settings exclude.",
}


def explain(
    decision: Decision, estimates: Estimates, policy: Policy, *, of_system: bool = True
) -> Tuple[str, ...]:
    """Say what was chosen and why; each string is a sentence or two, and each node pair has one.

    Args:
        decision: what `Decider.decide` returned.
        estimates: what the decision was made from.
        policy: what the decision was made by.
        of_system: whether to tell as well what is the same for the decisions of all models.
    """
    return (
        *_choice(decision),
        *(_rules(decision, policy) if of_system else ()),
        *_challenger(decision),
        *(_pair(node_pair, decision, estimates, policy) for node_pair in decision.predictions),
        *_stages(estimates),
        *(_links(estimates) if of_system else ()),
    )


def _choice(decision: Decision) -> Iterator[str]:
    if decision.node_pair is None:
        yield "No placement can serve."
    else:
        aim = _AIMS[decision.objective]
        reason = _REASONS.get(decision.reason, "")
        yield f"{decision.node_pair.name} serves; wanted: {aim}. {reason}".rstrip()


def _rules(decision: Decision, policy: Policy) -> Iterator[str]:
    if decision.objective is not policy.objective:
        yield (
            f"The objective is {policy.objective.value}, but no node's power is known; "
            f"{decision.objective.value} decides instead."
        )
    yield (
        f"Another placement takes over when the best is better by {policy.improvement:.0%} "
        f"for {policy.hold_seconds:g} s (half of that if it is by far), or when this one fails."
    )


def _challenger(decision: Decision) -> Iterator[str]:
    if decision.challenger is not None:
        seconds = decision.challenger_seconds
        yield f"{decision.challenger.name} has been better for {seconds:.1f} s."


def _pair(node_pair: NodePair, decision: Decision, estimates: Estimates, policy: Policy) -> str:
    prediction = decision.predictions[node_pair]
    parts = [f"{node_pair.name}: {_figures(prediction)}"]
    if prediction.known:
        parts.append(
            f"limited by {prediction.bottleneck}; {_links_used(prediction, estimates, policy)}"
        )
        if prediction.why_rate:
            parts.append(prediction.why_rate)
    observed = estimates.pairs.get(node_pair)
    if observed is not None:
        parts.append(
            f"reached {observed.frames_per_second:.1f} frames/s when it was saturated, "
            f"{_age(observed.age_seconds)}"
        )
    if prediction.assumed:
        parts.append(f"assumed: {', '.join(prediction.assumed)}")
    if node_pair in decision.excluded:
        parts.append(f"excluded: {decision.excluded[node_pair]}")
    if node_pair in decision.unavailable:
        parts.append(f"cannot serve: {decision.unavailable[node_pair]}")
    if node_pair == decision.node_pair:
        parts.append("chosen")
    return "; ".join(parts) + "."


def _figures(prediction: Prediction) -> str:
    if not prediction.known:
        return f"not predicted, for want of {', '.join(prediction.unknown)}"
    figures = (
        _figure(prediction.frames_per_second, 1, "frames/s"),
        _figure(prediction.latency_seconds, 1e3, "ms"),
        _figure(prediction.bytes_per_frame, 1e-3, "kB/frame"),
        _figure(prediction.energy_joules, 1, "J/frame"),
    )
    return ", ".join(figure for figure in figures if figure)


def _figure(value: Optional[float], scale: float, unit: str) -> str:
    return "" if value is None else f"{value * scale:.3g} {unit}"


def _links_used(prediction: Prediction, estimates: Estimates, policy: Policy) -> str:
    used = []
    if prediction.rate is not None:
        estimates = estimates.with_features(prediction.rate.payload_bytes)
    for link in links_of(prediction.node_pair, policy.located_at):
        payload_bytes = link.payload_bytes(estimates) or 0.0
        size = f"{payload_bytes / 1e3:.3g} kB"
        encode_seconds = link.encode_seconds(estimates)
        if estimates.frame_codec is not None and encode_seconds:
            size = f"as {estimates.frame_codec.value} in {encode_seconds * 1e3:.3g} ms, {size}"
        used.append(f"{link.carries} ({size}) from {link.sender} to {link.receiver}")
    return f"sends {' and '.join(used)}" if used else "nothing crosses a link"


def _stages(estimates: Estimates) -> Iterator[str]:
    for (node, stage), estimate in sorted(estimates.stages.items()):
        yield f"{stage.value} on {node}: {_stage(estimate)}."


def _stage(estimate: StageEstimate) -> str:
    shared = f" in each of {estimate.replicas} replicas" if estimate.replicas > 1 else ""
    return (
        f"{estimate.execute_seconds * 1e3:.3g} ms to execute{shared}, "
        f"{estimate.compute_seconds * 1e3:.3g} ms with all steps, "
        f"measured {_age(estimate.age_seconds)}, {estimate.frames} frames"
    )


def _links(estimates: Estimates) -> Iterator[str]:
    for (sender, receiver), estimate in sorted(estimates.links.items()):
        yield f"link {sender} to {receiver}: {_link(estimate)}."


def _link(estimate: LinkEstimate) -> str:
    source = "taken from the other direction's, measured" if estimate.borrowed else "measured"
    return (
        f"{estimate.bytes_per_second * 8e-6:.3g} Mbit/s, "
        f"round trip {estimate.latency_seconds * 1e3:.3g} ms, {source} {_age(estimate.age_seconds)}"
    )


def _age(seconds: float) -> str:
    return "just now" if seconds < 1 else f"{seconds:.0f} s ago"
