"""The experiment's table, CSV, record and plot."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from common.files import replace_text, replacing
from detr.coco.average_precision import FIGURES
from experiments.rate_accuracy.grid import (
    DESCRIPTIONS,
    Bound,
    Cost,
    Point,
    Series,
    bytes_for,
    line_of,
)

COMPARED_CODEC = "q4"
_STYLES = {
    Series.FEATURES: ("tab:blue", "o"),
    Series.REDUCED_JPEG: ("tab:red", "s"),
    Series.JPEG: ("tab:orange", "^"),
}


@dataclass(frozen=True)
class Comparison:
    """A codec against a line of JPEGs of the same AP.

    Attributes:
        codec: that is compared.
        ap: of the codec.
        bytes_per_frame: of the codec.
        series: of the JPEGs.
        jpeg: what they need for this AP.
    """

    codec: str
    ap: float
    bytes_per_frame: float
    series: Series
    jpeg: Cost

    @property
    def ratio(self) -> float:
        """The codec's bytes over JPEG's; where JPEG's are a bound, a bound the other way."""
        return self.bytes_per_frame / self.jpeg.bytes_per_frame

    def sentence(self) -> str:
        """The comparison in words."""
        jpeg = {Bound.EXACT: "", Bound.AT_LEAST: "more than ", Bound.AT_MOST: "less than "}
        ratio = {Bound.EXACT: "", Bound.AT_LEAST: "under ", Bound.AT_MOST: "over "}
        bound = self.jpeg.bound
        return (
            f"{self.codec}: AP {self.ap:.4f} with {self.bytes_per_frame:,.0f} bytes a frame; "
            f"{DESCRIPTIONS[self.series]}, needs {jpeg[bound]}{self.jpeg.bytes_per_frame:,.0f} "
            f"for that: {ratio[bound]}{self.ratio:.2f} of its bytes"
        )


def comparisons(points: Sequence[Point], codec: str = COMPARED_CODEC) -> list[Comparison]:
    """The codec against each line of JPEGs; none if it was not measured."""
    own = [point for point in line_of(points, Series.FEATURES) if point.name == codec]
    return [
        Comparison(codec, point.ap, point.bytes_per_frame, series, bytes_for(point.ap, line))
        for point in own
        for series in (Series.REDUCED_JPEG, Series.JPEG)
        if (line := line_of(points, series))
    ]


def markdown(points: Sequence[Point]) -> str:
    """A table of all points, AP in points (0 to 100) below that of fp32 beside it."""
    reference = next((point.ap for point in points if point.name == "fp32"), None)
    lines = [
        "| what crosses the link | AP | against fp32, points | AP50 | bytes a frame |",
        "|---|---|---|---|---|",
    ]
    names = {
        Series.FEATURES: "features {}",
        Series.REDUCED_JPEG: "JPEG {} at the network's size",
        Series.JPEG: "JPEG {}",
    }
    for point in points:
        behind = "" if reference is None else f"{100 * (point.ap - reference):+.2f}"
        lines.append(
            f"| {names[point.series].format(point.name)} | {point.ap:.4f} | {behind} | "
            f"{point.figures['AP50']:.4f} | {point.bytes_per_frame:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def write_all(folder: Path, points: Sequence[Point], about: Mapping[str, Any]) -> None:
    """Write `rate-accuracy.csv`, `.json`, `.md` and `.png`.

    Args:
        folder: where to.
        points: what was measured.
        about: the model, the set, versions; goes into the record.
    """
    table = folder / "rate-accuracy.csv"
    with replacing(table) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["series", "name", "bytes_per_frame", "frames", "fps", *FIGURES])
        for point in points:
            figures = (round(point.figures[name], 6) for name in FIGURES)
            row = [point.series.value, point.name, round(point.bytes_per_frame, 1)]
            writer.writerow([*row, point.frames, round(point.fps, 2), *figures])
    found = comparisons(points)
    record = {
        **about,
        "points": [asdict(point) for point in points],
        "comparisons": [{**asdict(one), "ratio": one.ratio} for one in found],
    }
    text = json.dumps(record, indent=2) + "\n"
    replace_text(folder / "rate-accuracy.json", text)
    sentences = "".join(f"\n{one.sentence()}.\n" for one in found)
    replace_text(folder / "rate-accuracy.md", markdown(points) + sentences)
    draw(points, folder / "rate-accuracy.png", str(about.get("title", "")))


def draw(points: Sequence[Point], path: Path, title: str) -> None:
    """Draw AP over bytes a frame, a line a series, every point named."""
    figure = Figure(figsize=(8, 5.2), dpi=120, layout="constrained")
    axis = figure.subplots()
    for series, (colour, marker) in _STYLES.items():
        line = sorted(line_of(points, series), key=lambda point: point.bytes_per_frame)
        sizes, aps = [point.bytes_per_frame for point in line], [point.ap for point in line]
        axis.plot(sizes, aps, color=colour, marker=marker, label=DESCRIPTIONS[series])
        above = series is Series.FEATURES
        for point in line:
            axis.annotate(
                point.name,
                (point.bytes_per_frame, point.ap),
                xytext=(0, 7 if above else -13),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=colour,
            )
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size / 1000:g} kB"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    sizes = [point.bytes_per_frame for point in points]
    ticks = [size for size in _ROUND_SIZES if min(sizes) / 1.3 < size < max(sizes) * 1.3]
    axis.set_xticks(ticks)
    axis.set(xlabel="bytes a frame on the link", ylabel="AP (IoU 0.50 to 0.95)", title=title)
    axis.margins(y=0.12)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", fontsize=9)
    with replacing(path) as beside:
        figure.savefig(beside)


_ROUND_SIZES = [factor * 10**power for power in range(2, 8) for factor in (1, 2, 5)]
