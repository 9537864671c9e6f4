"""The experiment's table, CSV and record."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.files import replace_text, replacing
from detr.coco.average_precision import FIGURES
from experiments.rate_accuracy.comparison import comparisons, price, price_table
from experiments.rate_accuracy.grid import Series
from experiments.rate_accuracy.plot import draw, draw_overview
from experiments.rate_accuracy.tradeoff import Point, reference_ap

CHART_NAME, OVERVIEW_NAME = "rate-accuracy.png", "overview.png"
RECORD_NAME = "rate-accuracy.json"
_NAMES = {
    Series.FEATURES: "features {}",
    Series.LATENTS: "latents {}",
    Series.JPEG: "JPEG {}",
    Series.REDUCED_JPEG: "JPEG {} at the network's size",
    Series.H264: "H.264 {}",
    Series.REDUCED_H264: "H.264 {} at the network's size",
    Series.H265: "H.265 {}",
    Series.REDUCED_H265: "H.265 {} at the network's size",
}


def markdown(points: Sequence[Point]) -> str:
    """A table of all points, AP in points (0 to 100) below that of fp32 beside it."""
    exact = reference_ap(points)
    lines = [
        "| what crosses the link | AP | against fp32, points | AP50 | bytes a frame | payload |",
        "|---|---|---|---|---|---|",
    ]
    for point in points:
        behind = "" if exact is None else f"{100 * (point.ap - exact):+.2f}"
        lines.append(
            f"| {_NAMES[point.series].format(point.name)} | {point.ap:.4f} | {behind} | "
            f"{point.figures['AP50']:.4f} | {point.bytes_per_frame:,.0f} | "
            f"{point.payload_bytes:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def summary(points: Sequence[Point], loss: float) -> str:
    """What lines need for one AP, as a table, and sentences that compare codecs to rivals."""
    found = price(points, loss)
    table = "" if found is None else f"\n{price_table(found)}"
    return table + "".join(f"\n{one.sentence()}.\n" for one in comparisons(points))


def write_all(folder: Path, points: Sequence[Point], about: Mapping[str, Any], loss: float) -> None:
    """Write `rate-accuracy.csv`, `.json`, `.md` and `.png`, and `overview.png`.

    Args:
        folder: where to.
        points: what was measured.
        about: the model, the set, versions; goes into the record.
        loss: how far under fp32 lines are compared.
    """
    table = folder / "rate-accuracy.csv"
    with replacing(table) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = ["series", "name", "bytes_per_frame", "payload_bytes", "frames", "fps"]
        writer.writerow([*columns, *FIGURES])
        for point in points:
            figures = (round(point.figures[name], 6) for name in FIGURES)
            sizes = (round(point.bytes_per_frame, 1), round(point.payload_bytes, 1))
            row = [point.series.value, point.name, *sizes]
            writer.writerow([*row, point.frames, round(point.fps, 2), *figures])
    found = price(points, loss)
    record = {
        **about,
        "points": [asdict(point) for point in points],
        "comparisons": [{**asdict(one), "ratio": one.ratio} for one in comparisons(points)],
        "price": None if found is None else asdict(found),
    }
    replace_text(folder / RECORD_NAME, json.dumps(record, indent=2) + "\n")
    replace_text(folder / "rate-accuracy.md", markdown(points) + summary(points, loss))
    title = str(about.get("title", ""))
    draw(points, folder / CHART_NAME, title)
    draw_overview(points, folder / OVERVIEW_NAME, title)
