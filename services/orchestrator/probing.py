"""Which placement to measure next, though nothing is sent there otherwise; pure functions."""

from __future__ import annotations

from typing import Iterable, Optional, Tuple

from common.domain.placement import NodePair, Stage
from services.orchestrator.measured import Estimates
from services.orchestrator.prediction import hops

# Links change from one moment to the next, devices hardly do.
_LINK_TOLERANCE_SECONDS = 1.0
_STAGE_TOLERANCE_SECONDS = 10.0
_NEVER = float("inf")


class ProbeBudget:
    """Lets a small share of frames be copied for measurement, evenly over time.

    Attributes:
        spent: copies so far.
    """

    def __init__(self, share: float) -> None:
        """Allow `share` of all frames; 0 allows none."""
        self._share = share
        self._allowance = 1.0 if share else 0.0
        self.spent = 0

    def earn(self) -> None:
        """A frame was answered."""
        # Not saved up: a pause would be followed by a burst.
        self._allowance = min(1.0, self._allowance + self._share)

    @property
    def enough(self) -> bool:
        """Whether a frame may be copied now."""
        return self._allowance >= 1.0

    def spend(self) -> None:
        """A frame is being copied."""
        self._allowance -= 1.0
        self.spent += 1


def pair_to_probe(
    candidates: Iterable[NodePair],
    current: NodePair,
    estimates: Estimates,
    located_at: str,
) -> Optional[NodePair]:
    """The candidate of which most is unknown or outdated; None when all are known well enough.

    Of two that are equally unknown, the one that shares fewer stages with the current pair goes
    first, since its copies slow the stream down less.

    Args:
        candidates: pairs that could be used.
        current: the one in use, which measures itself.
        estimates: what is known.
        located_at: place of the orchestrator: a node's name, or its own.
    """
    best: Optional[Tuple[Tuple[float, int, float], NodePair]] = None
    for pair in candidates:
        if pair == current:
            continue
        overdue = [age / tolerance for age, tolerance in _ages(pair, estimates, located_at)]
        if max(overdue) <= 1.0:
            continue
        unknown = sum(1.0 for each in overdue if each == _NEVER)
        shared = (pair.backbone == current.backbone) + (pair.transformer == current.transformer)
        rank = (unknown, -shared, max(overdue))
        if best is None or rank > best[0]:
            best = (rank, pair)
    return best[1] if best is not None else None


def _ages(pair: NodePair, estimates: Estimates, located_at: str) -> Iterable[Tuple[float, float]]:
    """Age and tolerated age of everything that a prediction for the pair needs; seconds."""
    for key in ((pair.backbone, Stage.BACKBONE), (pair.transformer, Stage.TRANSFORMER)):
        stage = estimates.stages.get(key)
        yield (_NEVER if stage is None else stage.age_seconds), _STAGE_TOLERANCE_SECONDS
    for hop in hops(pair, located_at):
        link = estimates.link(hop.sender, hop.receiver)
        yield (_NEVER if link is None else link.age_seconds), _LINK_TOLERANCE_SECONDS
