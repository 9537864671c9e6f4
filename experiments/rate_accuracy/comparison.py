"""Lines against each other at the same AP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.domain.codec import Codec
from experiments.rate_accuracy.grid import Series
from experiments.rate_accuracy.tradeoff import (
    Bound,
    Cost,
    Point,
    bytes_for,
    lines_of,
    reference_ap,
)

RIVALS: dict[str, tuple[Series, ...]] = {
    "JPEG of the whole frame": (Series.JPEG,),
    "JPEG at the network's size": (Series.REDUCED_JPEG,),
    "H.264 of the better size": (Series.H264, Series.REDUCED_H264),
    "H.265 of the better size": (Series.H265, Series.REDUCED_H265),
}
"""What features have to beat: a video may have either size, whatever takes fewer bytes."""

COMPARED_CODECS = (Codec.Q4.value, *(codec.value for codec in Codec if "latent" in codec.value))
SINGLE_LOSS, CLIP_LOSS = 0.007, 0.005
"""How far under fp32 lines are compared, as AP; a clip's frames differ less than pictures do."""

_BOUNDS = {Bound.EXACT: "", Bound.AT_LEAST: "more than ", Bound.AT_MOST: "less than "}


@dataclass(frozen=True)
class Comparison:
    """A codec against a rival of the same AP.

    Attributes:
        codec: that is compared.
        ap: of the codec.
        bytes_per_frame: of the codec.
        rival: a key of `RIVALS`.
        cost: what the rival needs for this AP.
    """

    codec: str
    ap: float
    bytes_per_frame: float
    rival: str
    cost: Cost

    @property
    def ratio(self) -> float:
        """The codec's bytes over the rival's; where those are a bound, a bound the other way."""
        return self.bytes_per_frame / self.cost.bytes_per_frame

    def sentence(self) -> str:
        """The comparison in words."""
        ratio = {Bound.EXACT: "", Bound.AT_LEAST: "under ", Bound.AT_MOST: "over "}
        bound = self.cost.bound
        return (
            f"{self.codec}: AP {self.ap:.4f} with {self.bytes_per_frame:,.0f} bytes a frame; "
            f"{self.rival} needs {_BOUNDS[bound]}{self.cost.bytes_per_frame:,.0f} "
            f"for that: {ratio[bound]}{self.ratio:.2f} of its bytes"
        )


def comparisons(
    points: Sequence[Point], codecs: Sequence[str] = COMPARED_CODECS
) -> list[Comparison]:
    """The codecs against each rival; those that were not measured are left out."""
    return [
        Comparison(point.name, point.ap, point.bytes_per_frame, rival, bytes_for(point.ap, line))
        for point in lines_of(points, Series.FEATURES, Series.LATENTS)
        if point.name in codecs
        for rival, series in RIVALS.items()
        if (line := lines_of(points, *series))
    ]


@dataclass(frozen=True)
class Price:
    """What everything needs for one AP.

    Attributes:
        ap: the AP.
        loss: how far that is under fp32.
        costs: what lines need for it, by their names.
    """

    ap: float
    loss: float
    costs: dict[str, Cost]


def price(points: Sequence[Point], loss: float) -> Price | None:
    """Bytes a frame of every line at an AP that is `loss` under that of fp32.

    Returns:
        None if fp32 was not measured.
    """
    exact = reference_ap(points)
    if exact is None:
        return None
    lines = {"latents": (Series.LATENTS,), "features": (Series.FEATURES,), **RIVALS}
    found = {name: lines_of(points, *series) for name, series in lines.items()}
    costs = {name: bytes_for(exact - loss, line) for name, line in found.items() if line}
    return Price(exact - loss, loss, costs)


def price_table(found: Price) -> str:
    """Bytes a frame at this AP, and how many times those of the first line that is."""
    first = next(iter(found.costs))
    own = found.costs[first]
    lines = [
        f"| at AP {found.ap:.4f}, {100 * found.loss:.1f} points under fp32 | bytes a frame | "
        f"times those of {first} |",
        "|---|---|---|",
    ]
    for name, cost in found.costs.items():
        ratio = cost.bytes_per_frame / own.bytes_per_frame
        bound = _ratio_bound(cost.bound, own.bound)
        size = f"{_BOUNDS[cost.bound]}{cost.bytes_per_frame:,.0f}"
        times = "" if name == first or bound is None else f"{bound}{ratio:.1f}"
        lines.append(f"| {name} | {size} | {times} |")
    return "\n".join(lines) + "\n"


def _ratio_bound(over: Bound, under: Bound) -> str | None:
    """How a ratio of two costs is to be read; None where nothing can be said."""
    if over is under is Bound.EXACT:
        return ""
    opposite = {Bound.EXACT: Bound.EXACT, Bound.AT_LEAST: Bound.AT_MOST}
    known = {over, opposite.get(under, Bound.AT_LEAST)} - {Bound.EXACT}
    return _BOUNDS[known.pop()] if len(known) == 1 else None
