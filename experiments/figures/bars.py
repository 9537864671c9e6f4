"""Grouped bars: models along the axis, a bar for each series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.figures.data import Series
from experiments.figures.style import Look
from experiments.placements.summary import Spread

_GROUP_WIDTH = 0.8
_HEADROOM = 1.18
# Shares of the highest value: where a diamond and a number collide, and half a diamond's height.
_BELOW, _ABOVE, _DIAMOND = -0.03, 0.1, 0.02
_THESIS_MARK = {"marker": "D", "color": "black", "markerfacecolor": "white", "markersize": 6}

Value = Callable[[str, Series], Spread | None]
Mark = Callable[[str, Series], float | None]


def grouped_bars(
    axes: Axes,
    models: Sequence[str],
    series: Mapping[Series, Look],
    value: Value,
    *,
    mark: Mark | None = None,
    decimals: int = 1,
) -> None:
    """Draw a bar with its whisker and number for every value that is known.

    Args:
        axes: to draw on.
        models: groups.
        series: bars of each group, and how they look.
        value: of a model and a series.
        mark: a published value drawn as a diamond beside ours; None: no marks.
        decimals: of the numbers above the bars.
    """
    width = _GROUP_WIDTH / max(1, len(series))
    bars = []
    for position, (each, look) in enumerate(series.items()):
        for group, model in enumerate(models):
            at = group + (position - (len(series) - 1) / 2) * width
            spread = value(model, each)
            if spread is not None:
                bars.append((at, look, spread, mark(model, each) if mark else None))
    highest = max((max(bar[2].high, bar[3] or 0.0) for bar in bars), default=0.0)
    for at, look, spread, published in bars:
        _bar(axes, at, width, spread, look)
        above = spread.high
        if published is not None:
            axes.plot([at], [published], linestyle="none", zorder=5, **_THESIS_MARK)  # type: ignore[arg-type]
            # A diamond right there would cover the number.
            if _BELOW * highest < published - above < _ABOVE * highest:
                above = max(above, published) + _DIAMOND * highest
        _number(axes, at, spread.median, decimals, above)
    axes.set_xticks(range(len(models)), models)
    axes.set_xlim(-0.6, len(models) - 0.4)
    axes.set_ylim(0, highest * _HEADROOM if highest else 1)
    axes.grid(axis="y", color="#e6e6e6")


def legend_handles(series: Mapping[Series, Look], with_thesis: bool = False) -> list[Artist]:
    """What the bars, and the diamonds, mean."""
    handles: list[Artist] = [
        Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="white", label=each.label)
        for each, look in series.items()
    ]
    if with_thesis:
        handles.append(Line2D([], [], linestyle="none", label="thesis", **_THESIS_MARK))  # type: ignore[arg-type]
    return handles


def say_instead(axes: Axes, text: str) -> None:
    """An empty plot that tells why it is empty."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, size=11)


def _bar(axes: Axes, at: float, width: float, spread: Spread, look: Look) -> None:
    axes.bar(
        at, spread.median, width * 0.92, color=look.colour, hatch=look.hatch, edgecolor="white"
    )
    axes.errorbar(
        at,
        spread.median,
        yerr=[[spread.median - spread.low], [spread.high - spread.median]],
        color="#222222",
        capsize=2.5,
        linewidth=1,
    )


def _number(axes: Axes, at: float, value: float, decimals: int, above: float) -> None:
    axes.annotate(
        f"{value:.{0 if value >= 100 else decimals}f}",
        (at, above),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        size=8,
    )
