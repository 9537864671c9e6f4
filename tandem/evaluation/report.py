"""What a finished evaluation leaves behind, and what it tells people."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from common.files import replace_text, replacing
from detr.coco.average_precision import FIGURES, IOU_THRESHOLDS, RECALLS, CocoScores
from tandem.evaluation.answers import Settings, results
from tandem.evaluation.run import Evaluation

RESULTS_NAME, RECORD_NAME, CURVE_NAME = "results.json", "record.json", "precision-recall.png"
WRITTEN = (RESULTS_NAME, RECORD_NAME, CURVE_NAME)

_PACKAGES = ("pycocotools", "numpy", "opencv-python-headless", "onnxruntime", "grpcio")
# IoU, size of the object, detections a picture; as pycocotools prints them.
_MEANINGS = (
    *(("0.50:0.95", "all", "100"), ("0.50", "all", "100"), ("0.75", "all", "100")),
    *(("0.50:0.95", size, "100") for size in ("small", "medium", "large")),
    *(("0.50:0.95", "all", limit) for limit in ("1", "10", "100")),
    *(("0.50:0.95", size, "100") for size in ("small", "medium", "large")),
)


def figures_table(evaluation: Evaluation) -> Table:
    """The twelve figures."""
    table = Table("figure", "IoU", "objects", "detections")
    table.add_column("value", justify="right")
    for name, meaning in zip(FIGURES, _MEANINGS, strict=True):
        value = evaluation.scores.figures[name]
        # -1: the set has no such object.
        table.add_row(name, *meaning, f"{value:.4f}" if value >= 0 else "none there")
    return table


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The figures by name, and how it ran."""
    return {
        **evaluation.scores.figures,
        "frames": evaluation.frames,
        "fps": evaluation.fps,
        "bytes_per_frame": evaluation.bytes_per_frame,
    }


def write_report(folder: Path, evaluation: Evaluation, settings: Settings, resumed: int) -> None:
    """Write results in COCO's format, the precision-recall plot and the record into `folder`."""
    content = json.dumps(results(evaluation.answers))
    replace_text(folder / RESULTS_NAME, content + "\n")
    placement, codec = settings["placement"], settings["codec"]
    title = f"placement {placement}, codec {codec or 'of the model'}, {evaluation.frames} pictures"
    draw_precision_recall(evaluation.scores, title, folder / CURVE_NAME)
    record = {
        "settings": dict(settings),
        **summary(evaluation),
        "frames_of_earlier_runs": resumed,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    text = json.dumps(record, indent=2) + "\n"
    replace_text(folder / RECORD_NAME, text)


def versions() -> dict[str, str]:
    """Of Python and of the packages that figures may depend on."""
    found = {"python": platform.python_version()}
    for name in ("tandem-detr", *_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def draw_precision_recall(scores: CocoScores, title: str, path: Path) -> None:
    """Draw precision over recall, the mean over the categories, at every overlap, as a PNG.

    The area under the curve of an overlap is its AP, the mean of these areas is AP.
    """
    figure = Figure(figsize=(6.4, 4.8), dpi=120, layout="constrained")
    axis = figure.subplots()
    for threshold, precision in zip(IOU_THRESHOLDS, scores.precision, strict=True):
        named = round(threshold, 2) in (0.5, 0.75)
        axis.plot(
            RECALLS,
            precision,
            color={0.5: "tab:orange", 0.75: "tab:green"}.get(round(threshold, 2), "0.8"),
            linewidth=1.8 if named else 0.8,
            label=f"IoU {threshold:.2f}: {precision.mean():.3f}" if named else None,
            zorder=2 if named else 1,
        )
    mean = scores.precision.mean(axis=0)
    axis.plot(
        *(RECALLS, mean),
        color="tab:blue",
        linewidth=2.2,
        label=f"mean of IoU 0.50 to 0.95: {mean.mean():.3f}",
        zorder=3,
    )
    axis.plot([], [], color="0.8", linewidth=0.8, label="the other IoU, in steps of 0.05")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=title)
    axis.grid(alpha=0.3)
    axis.legend(title="average precision", loc="upper right")
    with replacing(path) as beside:
        figure.savefig(beside)
