"""Which node pair to measure next by mirrored requests, and how many of them are sent; pure.

A mirrored request is a copy of a frame that was served already. It is sent to a node pair that is
not in use, so that the pair's stages and links are measured; its answer goes to nobody.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Optional, Tuple

from common.domain.placement import NodePair
from services.orchestrator.estimation.estimates import Estimates
from services.orchestrator.estimation.limits import links_of, stage_keys

# Links change from one moment to the next, devices hardly do.
_LINK_TOLERANCE_SECONDS = 1.0
_STAGE_TOLERANCE_SECONDS = 10.0
_NEVER = float("inf")
# What would hold a link for longer stands in the way of the frames there, and is worth measuring
# only where the link has long been idle: then it may take this share of the time.
_MOST_LINK_SECONDS = 0.5
_IDLE_LINK_SHARE = 0.02
# A frame of video that is only decoded takes no engine's time. What it does take, on the link and
# in the decoder, is a small part of what a frame takes that is served.
_DECODE_ONLY_SHARE = 1 / 8
# Before a link was measured.
_UNKNOWN_BYTES_PER_SECOND = 1e6


class SentBefore(NamedTuple):
    """What a mirrored request of video brings along: frames that its decoder lacks.

    Attributes:
        frames: number of them.
        data_bytes: their sizes, all together.
    """

    frames: int = 0
    data_bytes: int = 0

    @property
    def cost(self) -> float:
        """What the mirrored request costs, in mirrored pictures."""
        return 1.0 + _DECODE_ONLY_SHARE * self.frames

    def holds_link(self, bytes_per_second: Optional[float]) -> bool:
        """Whether this would stand in the way of frames on a link.

        Args:
            bytes_per_second: what the link carries; None while it is not known.
        """
        rate = bytes_per_second or _UNKNOWN_BYTES_PER_SECOND
        return self.data_bytes > _MOST_LINK_SECONDS * rate


NOTHING_BEFORE = SentBefore()


class MirrorBudget:
    """Lets a small share of the frames be mirrored, evenly over time."""

    def __init__(self, share: float) -> None:
        """Allow `share` of all frames, 0 to 1; 0 allows none."""
        self._share = share
        self._earned = 1.0 if share else 0.0

    def earn(self) -> None:
        """Take note that a frame was answered."""
        self._earned += self._share

    def enough(self, cost: float = 1.0) -> bool:
        """Whether a frame may be mirrored now that costs so much.

        It may cost what was earned since the last one. So video is mirrored soon after a key frame,
        where little has to be sent before, and all that is mirrored stays within the share.
        """
        return self._earned >= cost

    def spend(self) -> None:
        """Take note that a frame is being mirrored."""
        # Nothing is saved up: a pause would be followed by a burst.
        self._earned = 0.0


def pair_to_mirror(
    candidates: Iterable[NodePair],
    active_pair: NodePair,
    estimates: Estimates,
    located_at: str,
) -> Optional[NodePair]:
    """The candidate of which most is unknown or outdated; None when all are known well enough.

    Of two that are equally unknown, the one that shares fewer stages with the active pair goes
    first, since its mirrored requests slow the client's stream down less. A pair is passed over
    whose payload would hold a link for long, unless that has been idle.

    Args:
        candidates: node pairs that could be used.
        active_pair: the one in use, which measures itself.
        estimates: what is known.
        located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
    """
    best: Optional[Tuple[Tuple[float, int, float], NodePair]] = None
    for candidate in candidates:
        if candidate == active_pair or _holds_a_link(candidate, estimates, located_at):
            continue
        overdue = [age / tolerance for age, tolerance in _ages(candidate, estimates, located_at)]
        if max(overdue) <= 1.0:
            continue
        unknown = sum(1.0 for each in overdue if each == _NEVER)
        rank = (unknown, -_stages_shared(candidate, active_pair), max(overdue))
        if best is None or rank > best[0]:
            best = (rank, candidate)
    return best[1] if best is not None else None


def _holds_a_link(node_pair: NodePair, estimates: Estimates, located_at: str) -> bool:
    """Whether a mirrored request would hold up what uses one of the pair's links."""
    for link in links_of(node_pair, located_at):
        estimate, seconds = link.estimate(estimates), link.payload_seconds(estimates)
        if estimate is None or seconds is None:
            continue
        if seconds > max(_MOST_LINK_SECONDS, _IDLE_LINK_SHARE * estimate.age_seconds):
            return True
    return False


def _stages_shared(one: NodePair, other: NodePair) -> int:
    return (one.backbone == other.backbone) + (one.transformer == other.transformer)


def _ages(
    node_pair: NodePair, estimates: Estimates, located_at: str
) -> Iterable[Tuple[float, float]]:
    """Age and tolerated age of everything that the pair's prediction needs, in seconds."""
    for key in stage_keys(node_pair):
        stage = estimates.stages.get(key)
        yield (_NEVER if stage is None else stage.age_seconds), _STAGE_TOLERANCE_SECONDS
    for link in links_of(node_pair, located_at):
        estimate = link.estimate(estimates)
        yield (_NEVER if estimate is None else estimate.age_seconds), _LINK_TOLERANCE_SECONDS
