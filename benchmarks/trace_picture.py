"""A picture of a trace: `python -m benchmarks.trace_picture TRACE.json OUT.png`.

Shows part of what `tandem bench --trace` wrote, as the thesis's figure 3.1 does: the engines of
both stages over time, and the steps around them, coloured by frame.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

from common.files import replacing

mpl.use("Agg")
from matplotlib import pyplot as plt

# Lanes worth a row, from the top; the orchestrator's and those of waiting frames would only
# repeat what the gaps between these say.
SHOWN_LANES = ("input", "engine", "output")
MIN_LABEL_MILLISECONDS = 4.0


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--skip", type=float, default=1000.0, help="milliseconds left out first")
    parser.add_argument("--length", type=float, default=200.0, help="milliseconds shown")
    options = parser.parse_args()
    events = json.loads(options.trace.read_text())["traceEvents"]
    draw(events, options.picture, options.skip, options.length)


def draw(events: list[dict[str, Any]], picture: Path, skip: float, length: float) -> None:
    """Draw `length` milliseconds of a trace, from `skip` on."""
    names = {
        (event["name"], event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event["ph"] == "M"
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event["ph"] != "X":
            continue
        process = names["process_name", event["pid"], 0]
        lane = names["thread_name", event["pid"], event["tid"]].split()[0]
        if lane in SHOWN_LANES:
            rows.setdefault(f"{process}\n{lane}", []).append(event)
    order = sorted(rows, key=lambda row: SHOWN_LANES.index(row.rpartition("\n")[2]))
    order.sort(key=lambda row: row.partition("\n")[0])
    figure, axes = plt.subplots(figsize=(11, 0.55 * len(order) + 1.1), layout="constrained")
    for height, row in enumerate(reversed(order)):
        for event in rows[row]:
            _draw_step(axes, event, height, skip, length)
    axes.set_yticks(range(len(order)), [row.replace("\n", ": ") for row in reversed(order)])
    axes.set_xlim(0, length)
    axes.set_xlabel("milliseconds")
    axes.set_title("Steps of consecutive frames; the number and the colour are the frame's")
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(picture) as beside:
        figure.savefig(beside, dpi=120)


def _draw_step(axes: Any, event: dict[str, Any], height: int, skip: float, length: float) -> None:
    start, duration = event["ts"] / 1000 - skip, event["dur"] / 1000
    if start + duration < 0 or start > length:
        return
    frame_id = event["args"]["frame_id"]
    axes.barh(
        height,
        duration,
        left=start,
        height=0.7,
        color=plt.get_cmap("tab10")(frame_id % 10),
        edgecolor="white",
        linewidth=0.5,
    )
    middle = start + duration / 2
    if duration >= MIN_LABEL_MILLISECONDS and 0 < middle < length:
        axes.text(middle, height, str(frame_id), ha="center", va="center", color="white", size=9)


if __name__ == "__main__":
    main()
