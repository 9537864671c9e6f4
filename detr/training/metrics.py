"""What a run reports: a CSV of every logged step, and a picture of its curve."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path

METRICS_NAME = "metrics.csv"
CURVE_NAME = "curve.png"


@dataclass(frozen=True)
class MetricsRow:
    """One line of the CSV; losses are means over the steps since the line before.

    Attributes:
        step: steps done.
        images: images seen.
        seconds: of training so far, pauses between resumed runs left out.
        learning_rate: of the transformer.
        loss: weighted total.
        classes: cross-entropy of the last layer.
        l1: of the last layer's boxes.
        giou: of the last layer's boxes.
        dense: weighted total of the dense head.
        ap: on the evaluation pictures, on lines where it was computed.
        ap50: likewise.
    """

    step: int
    images: int
    seconds: float
    learning_rate: float
    loss: float
    classes: float
    l1: float
    giou: float
    dense: float
    ap: float | None = None
    ap50: float | None = None


class MetricsFile:
    """Appends rows to a CSV; a resumed run first drops those of steps it will repeat."""

    def __init__(self, folder: Path, resumed_at: int) -> None:
        """Open `metrics.csv` in `folder`, keeping rows up to step `resumed_at`."""
        self.path = folder / METRICS_NAME
        kept = [row for row in read_metrics(self.path) if row.step <= resumed_at]
        with self.path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(MetricsRow)])
            writer.writeheader()
            writer.writerows(_cells(row) for row in kept)

    def append(self, row: MetricsRow) -> None:
        """Write one row at once, so that nothing is lost when the run is ended."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, [field.name for field in fields(MetricsRow)]).writerow(_cells(row))


def read_metrics(path: Path) -> list[MetricsRow]:
    """Return the rows of a CSV; none when there is no such file."""
    if not path.is_file():
        return []
    whole_numbers = {"step", "images"}
    with path.open(encoding="utf-8", newline="") as file:
        return [
            MetricsRow(
                **{
                    name: (int(text) if name in whole_numbers else float(text)) if text else None
                    for name, text in line.items()
                }  # type: ignore[arg-type]
            )
            for line in csv.DictReader(file)
        ]


def draw_curve(folder: Path) -> Path:
    """Draw loss and AP over images seen as `curve.png` beside the CSV."""
    from matplotlib.figure import Figure

    rows = read_metrics(folder / METRICS_NAME)
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    loss_axis = figure.subplots()
    loss_axis.plot([r.images for r in rows], [r.loss for r in rows], color="tab:gray", label="loss")
    loss_axis.set(xlabel="images", ylabel="loss", ylim=(0, None))
    ap_axis = loss_axis.twinx()
    for name, colour in (("ap", "tab:blue"), ("ap50", "tab:orange")):
        points = [(r.images, getattr(r, name)) for r in rows if getattr(r, name) is not None]
        ap_axis.plot(*zip(*points, strict=True), ".-", color=colour, label=name.upper()) if (
            points
        ) else None
    ap_axis.set(ylabel="AP on validation scenes", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=3)
    path = folder / CURVE_NAME
    figure.savefig(path)
    return path


def _cells(row: MetricsRow) -> dict[str, object]:
    rounded = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in asdict(row).items()
    }
    return {name: "" if value is None else value for name, value in rounded.items()}
