"""AP over bytes a frame, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from common.files import replacing
from experiments.rate_accuracy.grid import Series
from experiments.rate_accuracy.tradeoff import Point, envelope, lines_of, reference_ap


@dataclass(frozen=True)
class _Line:
    """How one line, or the best of several, is drawn."""

    series: tuple[Series, ...]
    label: str
    colour: str
    marker: str
    dashed: bool = False
    named: bool = True


_LINES = (
    _Line((Series.LATENTS,), "latents", "tab:purple", "D"),
    _Line((Series.FEATURES,), "features", "tab:blue", "o"),
    _Line((Series.H265,), "H.265", "tab:green", "v"),
    _Line((Series.REDUCED_H265,), "H.265, network's size", "tab:green", "v", dashed=True),
    _Line((Series.H264,), "H.264", "tab:olive", "P"),
    _Line((Series.REDUCED_H264,), "H.264, network's size", "tab:olive", "P", dashed=True),
    _Line((Series.JPEG,), "JPEG", "tab:red", "^"),
    _Line((Series.REDUCED_JPEG,), "JPEG, network's size", "tab:orange", "s", dashed=True),
)
# The best of both sizes, and no settings' names but our own.
_OVERVIEW = (
    _Line((Series.LATENTS,), "Tandem's latents", "tab:purple", "D"),
    _Line((Series.FEATURES,), "features, 32 to 2 bits", "tab:blue", "o", named=False),
    _Line((Series.H265, Series.REDUCED_H265), "H.265", "tab:green", "v", named=False),
    _Line((Series.H264, Series.REDUCED_H264), "H.264", "tab:olive", "P", named=False),
    _Line((Series.JPEG, Series.REDUCED_JPEG), "JPEG", "tab:red", "^", named=False),
)
_ROUND_SIZES = [factor * 10**power for power in range(1, 8) for factor in (1, 2, 5)]
_LOWEST = 0.1  # a line ends this far, as AP, under the best: what is below says nothing


def draw(points: Sequence[Point], path: Path, title: str) -> None:
    """Draw AP over bytes a frame, a line a series, every point named."""
    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    axis = figure.subplots()
    for line in _LINES:
        own = sorted(lines_of(points, *line.series), key=lambda point: point.bytes_per_frame)
        _draw_line(axis, line, own)
    _finish(axis, points, title)
    with replacing(path) as beside:
        figure.savefig(beside)


def draw_overview(points: Sequence[Point], path: Path, title: str) -> None:
    """Draw fewer lines, each only as far as more bytes give more AP."""
    figure = Figure(figsize=(8, 4.2), dpi=120, layout="constrained")
    axis = figure.subplots()
    for line in _OVERVIEW:
        own = lines_of(points, *line.series)
        _draw_line(axis, line, envelope(own))
    exact = reference_ap(points)
    if exact is not None:
        axis.axhline(exact, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    _finish(axis, points, title)
    with replacing(path) as beside:
        figure.savefig(beside)


def _draw_line(axis: Axes, line: _Line, own: Sequence[Point]) -> None:
    if not own:
        return
    axis.plot(
        [point.bytes_per_frame for point in own],
        [point.ap for point in own],
        color=line.colour,
        marker=line.marker,
        markersize=5,
        linestyle="--" if line.dashed else "-",
        label=line.label,
        zorder=3 if line.series[0] is Series.LATENTS else 2,
    )
    for point in own if line.named else ():
        axis.annotate(
            point.name.removeprefix("crf"),
            (point.bytes_per_frame, point.ap),
            xytext=(0, -12 if line.dashed else 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=line.colour,
        )


def _finish(axis: Axes, points: Sequence[Point], title: str) -> None:
    axis.set_xscale("log", base=10)
    axis.xaxis.set_major_formatter(FuncFormatter(_size_text))
    axis.xaxis.set_minor_formatter(NullFormatter())
    sizes, best = [point.bytes_per_frame for point in points], max(point.ap for point in points)
    axis.set_xticks([one for one in _ROUND_SIZES if min(sizes) / 1.3 < one < max(sizes) * 1.3])
    axis.set(xlabel="bytes a frame", ylabel="AP (IoU 0.50 to 0.95)", title=title)
    axis.margins(y=0.12)
    least, most = axis.get_ylim()
    axis.set_ylim(max(least, best - _LOWEST), most)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", fontsize=8)


def _size_text(size: float, _position: int | None) -> str:
    return f"{size:g}" if size < 1000 else f"{size / 1000:g} kB"
