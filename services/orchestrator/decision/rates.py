"""Which latent rate a stream's features take: a rule over what is known of link and rates.

The finest rate is taken that the link carries without queueing. A rate that has become too much is
left at once; a finer one is taken when there has been clear room for it for a while. One that
proved too much after all is not tried again for some time, and for longer each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import List, Mapping, Optional, Sequence

from common.domain.codec import Codec, RateFigures
from common.domain.placement import NodePair
from services.orchestrator.estimation.estimates import Estimates, LinkEstimate
from services.orchestrator.estimation.link_rates import MESSAGE_OVERHEAD_BYTES

# Of what a link was measured to carry; the rest is for heartbeats and for what varies.
_USABLE_SHARE = 0.95
# Of what may be used, for a rate to be taken instead of a coarser one.
_CLEAR_SHARE = 0.85
_HOLD_SECONDS = 2.0
# After the first time that a rate proved too much, and after many.
_FIRST_BAR_SECONDS = 10.0
_LONGEST_BAR_SECONDS = 160.0
_PROVEN_SECONDS = 30.0
# Sizes of another rate that are older say little of what it would take now.
_RECENT_SECONDS = 10.0


@dataclass(frozen=True)
class RateOption:
    """One way to code features, and what it takes.

    Attributes:
        codec: a latent rate, or the bundle's default codec.
        payload_bytes: of a frame.
        average_precision: as calibration measured it, 0 to 1; None: not known.
    """

    codec: Codec
    payload_bytes: float
    average_precision: Optional[float] = None

    @property
    def bytes_per_frame(self) -> float:
        """What a frame takes of the link: its payload, and all that is sent along with it."""
        return self.payload_bytes + MESSAGE_OVERHEAD_BYTES


@dataclass(frozen=True)
class RateDemand:
    """What the rate has to meet.

    Attributes:
        frames_per_second: that are to cross the link.
        link_bytes_per_second: what the link has for this stream; None: not measured.
        limit_bytes_per_second: what its client allows it; None: as much as there is.
        carried_bytes_per_second: what of this stream crosses the link now, if frames wait for the
            link, so that it is all that there is; None while they do not wait.
    """

    frames_per_second: float
    link_bytes_per_second: Optional[float]
    limit_bytes_per_second: Optional[float] = None
    carried_bytes_per_second: Optional[float] = None

    @property
    def link_is_full(self) -> bool:
        """Whether frames wait for the link."""
        return self.carried_bytes_per_second is not None

    @property
    def room_bytes_per_second(self) -> Optional[float]:
        """What the stream's features may take; None while the link is not measured."""
        if self.link_bytes_per_second is None:
            return None
        rooms = [_USABLE_SHARE * self.link_bytes_per_second]
        if self.limit_bytes_per_second is not None:
            rooms.append(self.limit_bytes_per_second)
        if self.carried_bytes_per_second is not None:
            rooms.append(self.carried_bytes_per_second)
        return max(0.0, min(rooms))

    def needs(self, option: RateOption) -> float:
        """Bytes a second that the stream takes by an option."""
        return option.bytes_per_frame * self.frames_per_second


@dataclass(frozen=True)
class _Bar:
    until: float
    seconds: float


@dataclass(frozen=True)
class RateChoice:
    """The rate that a stream takes on one node pair, and what is remembered of others.

    Attributes:
        codec: that features travel by.
        since: when it was taken.
        why: the reason, in words.
        finer_since: since when there has been clear room for a finer one; None: there is none.
        bars: options that proved too much for the link, and until when they are not tried again.
    """

    codec: Codec
    since: float
    why: str
    finer_since: Optional[float] = None
    bars: Mapping[Codec, _Bar] = field(default_factory=dict)


def choose_rate(
    before: Optional[RateChoice],
    options: Sequence[RateOption],
    demand: RateDemand,
    now: float,
) -> RateChoice:
    """The rate to take now.

    Args:
        before: the choice until now; None: there was none.
        options: at least one, the finest first.
        demand: what the rate has to meet.
        now: seconds, of any steady clock.
    """
    at = _position(before, options)
    if before is None or at is None:
        chosen = _finest_that_fits(options, demand)
        return RateChoice(chosen.codec, now, explain_rate(chosen, options, demand))
    if demand.link_is_full and at < len(options) - 1:
        coarser = _finest_that_fits(options[at + 1 :], demand)
        return _take(_bar(before, now), coarser, options, demand, now)
    fitting = _finest_that_fits(options, demand)
    if options.index(fitting) > at:
        return _take(before, fitting, options, demand, now)
    clear = [each for each in _not_barred(options[:at], before, now) if _is_clear(each, demand)]
    if not clear:
        why = explain_rate(options[at], options, demand)
        return replace(before, finer_since=None, why=why)
    if before.finer_since is None:
        return replace(before, finer_since=now)
    if now - before.finer_since < _HOLD_SECONDS:
        return before
    return _take(before, clear[0], options, demand, now)


def rate_options(node_pair: NodePair, estimates: Estimates) -> List[RateOption]:
    """What a node pair's features can be coded by where a rate is chosen, the finest first.

    The latent rates of its backbone's bundle, but for those that a coarser one makes pointless;
    before them the bundle's default codec, once frames have shown what it takes. None where the
    bundle has no bottleneck.

    Args:
        node_pair: which nodes run the stages.
        estimates: what was measured.
    """
    figures = estimates.latent_rates.get(node_pair.backbone, ())
    recent = {
        codec: each.payload_bytes
        for codec, each in estimates.codecs.items()
        if each.age_seconds <= _RECENT_SECONDS
    }
    # What a scene takes of one rate, compared with the calibration's, it takes of others as well.
    busy = [
        recent[f.codec] / f.bytes_per_frame
        for f in figures
        if f.codec in recent and f.bytes_per_frame
    ]
    factor = busy[-1] if busy else 1.0
    options = [
        RateOption(f.codec, recent.get(f.codec, factor * f.bytes_per_frame), f.average_precision)
        for f in _worthwhile(figures)
    ]
    default = estimates.default_codecs.get(node_pair.backbone)
    is_further = default is not None and default not in {f.codec for f in figures}
    if options and default is not None and is_further and default in estimates.codecs:
        options.insert(0, RateOption(default, estimates.codecs[default].payload_bytes))
    return options


def _worthwhile(figures: Sequence[RateFigures]) -> List[RateFigures]:
    """The rates by falling AP, without those that keep no more than one of fewer bytes.

    Where the AP of one is not known, they stay as they are named.
    """
    known = [(-f.average_precision, f) for f in figures if f.average_precision is not None]
    if len(known) < len(figures):
        return list(figures)
    found: List[RateFigures] = []
    for _, f in sorted(known, key=lambda each: (each[0], each[1].bytes_per_frame)):
        if not found or f.bytes_per_frame < found[-1].bytes_per_frame:
            found.append(f)
    return found


def available_bytes_per_second(link: Optional[LinkEstimate], own: float) -> Optional[float]:
    """What a link has for a stream that sends `own` bytes a second: what others leave of it."""
    if link is None:
        return None
    others = max(0.0, link.carried_bytes_per_second - own)
    return max(0.0, link.bytes_per_second - others)


def explain_rate(chosen: RateOption, options: Sequence[RateOption], demand: RateDemand) -> str:
    """Why a rate is taken, in words."""
    told = f"{chosen.codec.value}: {chosen.payload_bytes:.0f} bytes a frame"
    if chosen.average_precision is not None:
        told += f" at AP {chosen.average_precision:.3f}"
    room = demand.room_bytes_per_second
    if room is None:
        return f"{told}; the link is not measured yet"
    at = options.index(chosen)
    has = _what_there_is(demand)
    if at == len(options) - 1 and demand.needs(chosen) > room:
        return f"{told}, the coarsest, although it takes {_rate(demand.needs(chosen))} of the {has}"
    if at == 0:
        return f"{told}, the finest; it takes {_rate(demand.needs(chosen))} of the {has}"
    finer = options[at - 1]
    return f"{told}; {finer.codec.value} would take {_rate(demand.needs(finer))} of the {has}"


def _what_there_is(demand: RateDemand) -> str:
    """What the rate is held against, in words."""
    room = demand.room_bytes_per_second or 0.0
    if demand.limit_bytes_per_second is not None and demand.limit_bytes_per_second <= room:
        return f"{_rate(demand.limit_bytes_per_second)} that the client allows"
    if demand.carried_bytes_per_second is not None and demand.carried_bytes_per_second <= room:
        return f"{_rate(demand.carried_bytes_per_second)} that get through"
    return f"{_rate(demand.link_bytes_per_second or 0.0)} that the link carries"


def _rate(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e3:.3g} kB/s"


def _position(before: Optional[RateChoice], options: Sequence[RateOption]) -> Optional[int]:
    codecs = [option.codec for option in options]
    return codecs.index(before.codec) if before is not None and before.codec in codecs else None


def _finest_that_fits(options: Sequence[RateOption], demand: RateDemand) -> RateOption:
    """The coarsest where none fits, or where that cannot be told."""
    room = demand.room_bytes_per_second
    fitting = [each for each in options if room is not None and demand.needs(each) <= room]
    return fitting[0] if fitting else options[-1]


def _is_clear(option: RateOption, demand: RateDemand) -> bool:
    """Whether there is room for an option, and some to spare."""
    room = demand.room_bytes_per_second
    if room is None or demand.link_is_full:
        return False
    return demand.needs(option) <= _CLEAR_SHARE * room


def _not_barred(
    options: Sequence[RateOption], before: RateChoice, now: float
) -> Sequence[RateOption]:
    """Those that may be tried: what is finer than one that proved too much is so as well."""
    barred = [codec for codec, bar in before.bars.items() if now < bar.until]
    first = max((at + 1 for at, each in enumerate(options) if each.codec in barred), default=0)
    return options[first:]


def _bar(before: RateChoice, now: float) -> RateChoice:
    """Remember that the present rate proved too much."""
    known = before.bars.get(before.codec)
    if now - before.since > _PROVEN_SECONDS:
        # It fitted for long, so that it is the link that has changed.
        known = None
    seconds = min(2 * known.seconds, _LONGEST_BAR_SECONDS) if known else _FIRST_BAR_SECONDS
    return replace(before, bars={**before.bars, before.codec: _Bar(now + seconds, seconds)})


def _take(
    before: RateChoice,
    option: RateOption,
    options: Sequence[RateOption],
    demand: RateDemand,
    now: float,
) -> RateChoice:
    why = explain_rate(option, options, demand)
    return RateChoice(option.codec, now, why, bars=before.bars)
