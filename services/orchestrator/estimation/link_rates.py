"""What each link carries, from how long frames and features took over it.

A frame that crosses an idle link takes its bytes by the link's rate; one that queues in a busy
link takes longer, but then the link delivers one after the other at just that rate. Both are at
most what the link can do, so the greater is the estimate, as in BBR (Cardwell et al., 2016).
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple

from common.domain.placement import Stage
from services.orchestrator.estimation.estimates import LinkEstimate, LinkKey

# Long enough for some frames of a slow link, short enough to follow one that changes.
_WINDOW_SECONDS = 1.0
_MAX_SAMPLES = 512
# Answers come in bursts; a rate over less time would be that of a burst.
_LEAST_SPAN_SECONDS = 0.25
# Payloads from half the largest one: small ones are mostly delay.
_LARGE_SHARE = 0.5
# Some frames find the link busy for a moment; the quicker ones show what the link can do.
_QUICK_QUANTILE = 0.75
# The rest of a transfer at least, whatever the round trip: it is a minimum of other messages.
_LEAST_SERIALISATION_SHARE = 0.2
# 10 Gbit/s; above it no link is the limit, and clocks tell nothing.
_MAX_BYTES_PER_SECOND = 1.25e9
# A smaller payload's time says nothing of the rate, nor of whether it has changed.
_TELLING_BYTES = 16_000
# Measured rates vary; this much is a change of the link.
_CHANGE_FACTOR = 2.0
# Without an answer for so long a use is idle, and may only remember.
_FRESH_SECONDS = 1.0

# What a message takes beside its payload: packet headers with time stamps, 66; HTTP/2 and gRPC with
# their window updates, 40; fields of the message, 24 (docs/decisions/0030-latent-rates.md).
MESSAGE_OVERHEAD_BYTES = 130
# A slope over fewer or more equal payloads is mostly noise, and so is one that tells of far more
# than the payloads themselves show.
_LEAST_SLOPE_SAMPLES = 24
_SLOPE_SAMPLES = 64
_LEAST_SPREAD_BYTES = 10.0
_MOST_OF_LOWER_BOUND = 4.0

LinkUseKey = Tuple[str, str, Stage]
RoundTrip = Callable[[str, str], float]


@dataclass(frozen=True)
class _Sample:
    at: float
    payload_bytes: int
    transfer_seconds: float


class _LinkUse:
    """One use of a link: the frames, or the features, that one place sends to another.

    Attributes:
        key: sender, receiver, and the stage that receives.
        basis: bytes per second of each other use of the same link when this one was measured; by
            them a change of the link is noticed while this use is idle.
    """

    def __init__(self, key: LinkUseKey) -> None:
        self.key = key
        self.basis: Dict[LinkUseKey, float] = {}
        self.delivered_bytes_per_second = 0.0
        self.quick_bytes_per_second = 0.0
        self._samples: Deque[_Sample] = deque(maxlen=_MAX_SAMPLES)
        self._is_new = False

    def add(self, sample: _Sample) -> None:
        self._samples.append(sample)
        self._is_new = True

    def age_seconds(self, now: float) -> float:
        return max(0.0, now - self._samples[-1].at)

    @property
    def bytes_per_second(self) -> float:
        return max(self.delivered_bytes_per_second, self.quick_bytes_per_second)

    @property
    def tells_change(self) -> bool:
        return self._samples[-1].payload_bytes >= _TELLING_BYTES

    def measure(self, round_trip_seconds: float) -> None:
        """Derive the rates, if there is anything new."""
        if not self._is_new:
            return
        self._is_new = False
        since = self._samples[-1].at - _WINDOW_SECONDS
        recent = [sample for sample in self._samples if sample.at >= since]
        self.delivered_bytes_per_second = _delivery_rate(recent)
        self.quick_bytes_per_second = _quick_rate(recent, round_trip_seconds)
        if not self.tells_change:
            # Of small payloads the answer takes as long, so that this is too little.
            self.quick_bytes_per_second = _slope_rate(self._samples, self.bytes_per_second)

    def changed(self, other: _LinkUse) -> Optional[float]:
        """The other use's rate now, over that when this one was measured; None if unknown."""
        basis = self.basis.get(other.key)
        return other.bytes_per_second / basis if basis else None


def _delivery_rate(samples: List[_Sample]) -> float:
    """Bytes a second that arrived; 0 when there is too little to tell."""
    span_seconds = samples[-1].at - samples[0].at
    if span_seconds < _LEAST_SPAN_SECONDS:
        return 0.0
    total_bytes = sum(sample.payload_bytes for sample in samples[1:])
    return min(_MAX_BYTES_PER_SECOND, total_bytes / span_seconds)


def _quick_rate(samples: List[_Sample], round_trip_seconds: float) -> float:
    """Bytes a second of the quicker ones of the large payloads, one at a time."""
    largest_bytes = max(sample.payload_bytes for sample in samples)
    rates = sorted(
        _own_rate(sample, round_trip_seconds)
        for sample in samples
        if sample.payload_bytes >= _LARGE_SHARE * largest_bytes
    )
    return rates[int(_QUICK_QUANTILE * (len(rates) - 1))]


def _slope_rate(samples: Sequence[_Sample], lower_bound: float) -> float:
    """Bytes a second by how much longer a larger payload takes, as pathchar measures links.

    Args:
        samples: of one use of a link, all of them small payloads.
        lower_bound: bytes a second that the link carries in any case.
    """
    recent = list(samples)[-_SLOPE_SAMPLES:]
    if len(recent) < _LEAST_SLOPE_SAMPLES:
        return lower_bound
    sizes = [sample.payload_bytes for sample in recent]
    mean_bytes = statistics.fmean(sizes)
    spread = sum((size - mean_bytes) ** 2 for size in sizes)
    if spread < len(sizes) * _LEAST_SPREAD_BYTES**2:
        return lower_bound
    seconds_per_byte = sum((s.payload_bytes - mean_bytes) * s.transfer_seconds for s in recent)
    seconds_per_byte /= spread
    most = _MOST_OF_LOWER_BOUND * lower_bound
    return most if seconds_per_byte * most <= 1 else max(lower_bound, 1 / seconds_per_byte)


def _own_rate(sample: _Sample, round_trip_seconds: float) -> float:
    seconds = max(
        sample.transfer_seconds - round_trip_seconds,
        _LEAST_SERIALISATION_SHARE * sample.transfer_seconds,
    )
    if sample.payload_bytes >= _MAX_BYTES_PER_SECOND * seconds:
        return _MAX_BYTES_PER_SECOND
    return sample.payload_bytes / seconds


class LinkRates:
    """Keeps the rates of all links.

    A direction that carries nothing keeps its last rate until other traffic of the same link shows
    a change; then, or if it was never measured, it is taken to be as the other one.
    """

    def __init__(self) -> None:
        """Begin without any link."""
        self._uses: Dict[LinkUseKey, _LinkUse] = {}

    def observe(
        self, key: LinkUseKey, payload_bytes: int, transfer_seconds: float, now: float
    ) -> None:
        """Take note of one payload that crossed a link; costs the same however many came before.

        Args:
            key: sender, receiver, and the stage that received.
            payload_bytes: size of the frame or of the features.
            transfer_seconds: round trip less the time that the receiver held the payload.
            now: when the payload arrived.
        """
        sender, receiver, _ = key
        if sender == receiver or payload_bytes <= 0:
            return
        use = self._uses.setdefault(key, _LinkUse(key))
        use.add(_Sample(now, payload_bytes + MESSAGE_OVERHEAD_BYTES, transfer_seconds))

    def estimates(self, now: float, round_trip: RoundTrip) -> Dict[LinkKey, LinkEstimate]:
        """Estimate both directions of every link that has carried anything.

        Args:
            now: seconds, of the clock of `observe`.
            round_trip: gives the least seconds that a message and its answer took between two
                places.
        """
        estimates: Dict[LinkKey, LinkEstimate] = {}
        for places in {frozenset(key[:2]) for key in self._uses}:
            uses = self._measured(places, now, round_trip)
            for sender, receiver in _directions(places):
                bytes_per_second, age_seconds, borrowed = _direction(sender, uses, now)
                estimates[sender, receiver] = LinkEstimate(
                    bytes_per_second,
                    round_trip(sender, receiver),
                    age_seconds,
                    borrowed,
                    _carried(sender, uses, now),
                )
        return estimates

    def _measured(
        self, places: FrozenSet[str], now: float, round_trip: RoundTrip
    ) -> List[_LinkUse]:
        """The uses of one link, the latest first."""
        uses = [use for key, use in self._uses.items() if places == frozenset(key[:2])]
        for use in uses:
            use.measure(round_trip(use.key[0], use.key[1]))
        fresh = [use for use in uses if use.age_seconds(now) <= _FRESH_SECONDS]
        telling = {use.key: use.bytes_per_second for use in fresh if use.tells_change}
        for use in fresh:
            use.basis = {key: rate for key, rate in telling.items() if key != use.key}
        return sorted(uses, key=lambda use: use.age_seconds(now))


def _directions(places: FrozenSet[str]) -> Iterator[LinkKey]:
    first, second = sorted(places)
    yield first, second
    yield second, first


def _carried(sender: str, uses: List[_LinkUse], now: float) -> float:
    own = [use for use in uses if use.key[0] == sender and use.age_seconds(now) <= _FRESH_SECONDS]
    return sum(use.delivered_bytes_per_second for use in own)


def _direction(sender: str, uses: List[_LinkUse], now: float) -> Tuple[float, float, bool]:
    """Rate, age and whether it is borrowed of the direction in which `sender` sends."""
    own = [use for use in uses if use.key[0] == sender]
    fresh = [use for use in uses if use.age_seconds(now) <= _FRESH_SECONDS]
    fresh_own = [use for use in fresh if use in own]
    if fresh_own:
        return _rate_in_use(fresh_own, own), fresh_own[0].age_seconds(now), False
    if not own:
        # Of several lower bounds that are of the same time the greatest is nearest.
        latest = max(fresh or uses[:1], key=lambda use: use.bytes_per_second)
        return latest.bytes_per_second, latest.age_seconds(now), True
    return _rate_remembered(own[0], [use for use in fresh if use.tells_change], now)


def _rate_in_use(fresh: List[_LinkUse], own: List[_LinkUse]) -> float:
    delivered = sum(use.delivered_bytes_per_second for use in fresh)
    rate = max([delivered, *(use.quick_bytes_per_second for use in fresh)])
    for idle in own:
        changes = [idle.changed(use) for use in fresh if idle not in fresh]
        known = [change for change in changes if change is not None]
        # A larger payload showed more of the link, and nothing says that it has changed.
        if known and all(change > 1 / _CHANGE_FACTOR for change in known):
            rate = max(rate, idle.bytes_per_second)
    return min(rate, _MAX_BYTES_PER_SECOND)


def _rate_remembered(
    idle: _LinkUse, others: List[_LinkUse], now: float
) -> Tuple[float, float, bool]:
    for other in others:
        change = idle.changed(other)
        if change is None:
            continue
        if change <= 1 / _CHANGE_FACTOR and other.bytes_per_second < idle.bytes_per_second:
            return other.bytes_per_second, other.age_seconds(now), True
        if change >= _CHANGE_FACTOR and other.bytes_per_second > idle.bytes_per_second:
            return other.bytes_per_second, other.age_seconds(now), True
    return idle.bytes_per_second, idle.age_seconds(now), False
