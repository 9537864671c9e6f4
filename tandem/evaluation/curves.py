"""The precision-recall plot."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from common.files import replacing
from detr.average_precision import IOU_THRESHOLDS, RECALLS, CocoScores


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
