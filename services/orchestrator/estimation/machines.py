"""What is measured of machines and links, whatever model the frames were served by."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from functools import partial
from typing import DefaultDict, Deque, Dict, Hashable, Iterable, Tuple

from common.domain.placement import ORCHESTRATOR
from services.orchestrator.estimation.link_rates import LinkRates
from services.orchestrator.estimation.stage_times import StageKey

_ROUND_TRIP_SECONDS = 10.0
_KEPT_ROUND_TRIPS = 64
_KEPT_ENCODINGS = 64
# A node is shared with another model that has sent it so many frames in so long; a mirrored request
# now and then takes nothing from anybody.
_SHARED_FRAMES = 4
_SHARED_SECONDS = 2.0


class Machines:
    """The measurements that the models have in common.

    Attributes:
        located_at: place of the orchestrator: a node's name, or `ORCHESTRATOR`.
        links: what they carry.
        watts: power of each node at work, where it is known.
    """

    def __init__(self, located_at: str = ORCHESTRATOR) -> None:
        """Begin with nothing known."""
        self.located_at = located_at
        self.links = LinkRates()
        self.watts: Dict[str, float] = {}
        self._encode_seconds: Deque[float] = deque(maxlen=_KEPT_ENCODINGS)
        self._round_trips: Dict[str, Deque[Tuple[float, float]]] = {}
        # When each model's latest frames came back from a node's stage.
        self._used_at: DefaultDict[StageKey, DefaultDict[Hashable, Deque[float]]]
        self._used_at = defaultdict(_use)

    @property
    def encode_seconds(self) -> float:
        """How long it takes to encode a picture for a link; 0 before the first."""
        return statistics.median(self._encode_seconds or [0.0])

    def observe_encoding(self, seconds: float) -> None:
        """Take note of how long it took to encode a picture for a link."""
        self._encode_seconds.append(seconds)

    def observe_round_trip(self, node: str, seconds: float, now: float) -> None:
        """Take note of how long the orchestrator waited for a node's answer to a small message."""
        known = self._round_trips.setdefault(node, deque(maxlen=_KEPT_ROUND_TRIPS))
        known.append((now, seconds))

    def round_trip(self, places: Tuple[str, ...], now: float) -> float:
        """The least lately between two places; 0 when the orchestrator is at neither."""
        nodes = [place for place in places if place != self.located_at]
        known = self._round_trips.get(nodes[0]) if len(nodes) == 1 else None
        if not known:
            return 0.0
        recent = [seconds for at, seconds in known if at >= now - _ROUND_TRIP_SECONDS]
        return min(recent, default=known[-1][1])

    def used(self, model: Hashable, stages: Iterable[StageKey], now: float) -> None:
        """A frame of a model has come back from these stages."""
        for key in stages:
            self._used_at[key][model].append(now)

    def is_shared(self, model: Hashable, nodes: Iterable[str], now: float) -> bool:
        """Whether one of these nodes has served frames of another model just now."""
        wanted = frozenset(nodes)
        return any(
            other != model and len(at) == _SHARED_FRAMES and at[0] >= now - _SHARED_SECONDS
            for (node, _), models in self._used_at.items()
            if node in wanted
            for other, at in models.items()
        )


def _use() -> DefaultDict[Hashable, Deque[float]]:
    """When each model's latest frames came back, before the first."""
    return defaultdict(partial(deque, maxlen=_SHARED_FRAMES))
