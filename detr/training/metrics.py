"""The reports of a run: a CSV of every logged step, and a picture of its curve."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

METRICS_NAME = "metrics.csv"
CURVE_NAME = "curve.png"

_FIRST_COLUMNS = ("step", "images", "seconds", "learning_rate")
_LAST_COLUMNS = ("ap", "ap50")
_TRAINING_LOSSES = ("loss", "classes", "l1", "giou", "dense", "corners", "denoising")


@dataclass(frozen=True)
class MetricsRow:
    """One line of the CSV; losses are means over the steps since the line before.

    Attributes:
        step: steps done.
        images: images seen.
        seconds: how long training took so far, without pauses between resumed runs.
        learning_rate: the transformer's.
        losses: by name: `loss`, which is minimised; of training against the truth, the last
            layer's `classes` (cross-entropy), `l1` and `giou`, and the total of the `dense` head;
            of distillation, see `detr.distillation`.
        ap: on the evaluation pictures, on lines where it was computed.
        ap50: likewise.
    """

    step: int
    images: int
    seconds: float
    learning_rate: float
    losses: Mapping[str, float]
    ap: float | None = None
    ap50: float | None = None

    @property
    def loss(self) -> float:
        """What is minimised."""
        return self.losses["loss"]


class MetricsFile:
    """Appends rows to a CSV; a resumed run first drops those of steps it will repeat."""

    def __init__(self, folder: Path, resumed_at: int, loss_names: Sequence[str]) -> None:
        """Open `metrics.csv` in `folder`, keeping rows up to step `resumed_at`."""
        self.path = folder / METRICS_NAME
        self.columns = (*_FIRST_COLUMNS, *loss_names, *_LAST_COLUMNS)
        kept = [row for row in read_metrics(self.path) if row.step <= resumed_at]
        with self.path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(_cells(row) for row in kept)

    def append(self, row: MetricsRow) -> None:
        """Write one row at once, so that nothing is lost when the run is ended."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(_cells(row))


def read_metrics(path: Path) -> list[MetricsRow]:
    """Return the rows of a CSV; none when there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(line) for line in csv.DictReader(file)]


def draw_curve(folder: Path) -> Path:
    """Draw `curve.png` beside the CSV: loss and AP, and below them a teacher's losses, if any."""
    from matplotlib.figure import Figure

    rows = read_metrics(folder / METRICS_NAME)
    details = sorted({name for row in rows for name in row.losses} - set(_TRAINING_LOSSES))
    figure = Figure(figsize=(7, 8 if details else 4), dpi=100, layout="constrained")
    panels = figure.subplots(2 if details else 1, squeeze=False)[:, 0]
    _draw_progress(rows, panels[0])
    if details:
        _draw_details(rows, details, panels[1])
    path = folder / CURVE_NAME
    figure.savefig(path)
    return path


def _draw_progress(rows: Sequence[MetricsRow], axis: Any) -> None:
    axis.plot([r.images for r in rows], [r.loss for r in rows], color="tab:gray", label="loss")
    axis.set(xlabel="images", ylabel="loss", ylim=(0, None))
    ap_axis = axis.twinx()
    for name, colour in (("ap", "tab:blue"), ("ap50", "tab:orange")):
        points = [(r.images, getattr(r, name)) for r in rows if getattr(r, name) is not None]
        if points:
            ap_axis.plot(*zip(*points, strict=True), ".-", color=colour, label=name.upper())
    ap_axis.set(ylabel="AP on validation scenes", ylim=(0, 1))
    handles = [
        pair
        for one in (axis, ap_axis)
        for pair in zip(*one.get_legend_handles_labels(), strict=True)
    ]
    axis.legend(*zip(*handles, strict=True), loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)


def _draw_details(rows: Sequence[MetricsRow], names: Sequence[str], axis: Any) -> None:
    for name in names:
        points = [(r.images, r.losses[name]) for r in rows if name in r.losses]
        axis.plot(*zip(*points, strict=True), label=name)
    axis.set(xlabel="images", ylabel="difference from the teacher", yscale="log")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)


def _row(line: dict[str, str]) -> MetricsRow:
    values = {name: float(text) for name, text in line.items() if text}
    fixed = {*_FIRST_COLUMNS, *_LAST_COLUMNS}
    return MetricsRow(
        step=int(values["step"]),
        images=int(values["images"]),
        seconds=values["seconds"],
        learning_rate=values["learning_rate"],
        losses={name: value for name, value in values.items() if name not in fixed},
        ap=values.get("ap"),
        ap50=values.get("ap50"),
    )


def _cells(row: MetricsRow) -> dict[str, object]:
    values = asdict(row)
    values |= values.pop("losses")
    rounded = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in values.items()
    }
    return {name: "" if value is None else value for name, value in rounded.items()}
